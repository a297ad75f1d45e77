"""A real Prometheus watches a real mesh: every panel draws, and alerts come and go with troubles.

Thresholds and durations are shortened by values; the rules are those that people have. `make
robustness` plays all troubles, one after the other: a game day.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.monitoring.boards import Shown, everything, filled
from tests.monitoring.programs import needs_prometheus
from tests.monitoring.troubles import LONG, SHORT, Case
from tests.monitoring.watched import WINDOW, Watched, watched_mesh

pytestmark = [needs_prometheus, pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]

CASES = (
    *SHORT,
    *(pytest.param(case, marks=pytest.mark.robustness, id=str(case)) for case in LONG),
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def watched(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Watched]:
    async with watched_mesh(tmp_path_factory.mktemp("watched")) as watched:
        await watched.scraped(12)
        yield watched


async def values_of(watched: Watched, panel: Shown, expr: str) -> list[float]:
    found = await watched.prometheus.query(filled(expr, WINDOW, "1m"))
    return [value for _, value in found if not math.isnan(value)]


async def test_every_panel_has_data_or_says_what_it_needs(watched: Watched) -> None:
    empty = [
        str(panel)
        for panel in everything()
        if not any([await values_of(watched, panel, expr) for expr, _ in panel.queries])
        and not panel.needs_more
    ]
    assert empty == []


async def test_panels_that_need_more_have_data_where_it_is_there(watched: Watched) -> None:
    for panel in everything():
        if any(one in panel.description for one in ("Needs kube-state", "Needs NVIDIA", "TLS.")):
            for expr, _ in panel.queries:
                assert await values_of(watched, panel, expr), panel


async def test_nothing_fires_while_all_is_well(watched: Watched) -> None:
    assert await watched.prometheus.query('ALERTS{alertstate="firing"}') == []
    assert watched.answers > 0


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_alerts_come_and_go_with_the_trouble(watched: Watched, case: Case) -> None:
    before = await watched.firing()
    assert not before & {*case.alerts, *case.lasting}
    async with case.trouble(watched):
        for name in (*case.alerts, *case.lasting):
            fired = await watched.fires(name)
            assert fired["annotations"]["summary"]
            assert "{{" not in fired["annotations"]["summary"]
            told = await watched.receiver.told(name, "firing")
            assert told["annotations"]["runbook_url"] == f"docs/runbooks/{name}.md"
    for name in case.alerts:
        await watched.is_over(name)
        await watched.receiver.told(name, "resolved")
