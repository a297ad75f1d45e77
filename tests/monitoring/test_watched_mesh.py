"""A real Prometheus watches a real mesh: every panel draws, and alerts come and go with troubles.

Thresholds and durations are shortened by values; the rules are those that people have. `make
robustness` plays all troubles, one after the other: a game day.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.monitoring.boards import everything, filled
from tests.monitoring.programs import needs_prometheus
from tests.monitoring.troubles import LONG, SHORT, SIGNS, Case
from tests.monitoring.watched import OF_LATENCY, WINDOW, Watched, told, watched_mesh
from tests.robustness.nodes import PATIENCE_SECONDS

pytestmark = [
    needs_prometheus,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.slow,
    pytest.mark.timeout(600),
]

CASES = (
    *SHORT,
    *(pytest.param(case, marks=pytest.mark.robustness, id=str(case)) for case in LONG),
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def watched(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Watched]:
    async with watched_mesh(tmp_path_factory.mktemp("watched")) as watched:
        await watched.scraped(8)
        yield watched


async def values_of(watched: Watched, expr: str) -> list[float]:
    found = await watched.prometheus.query(filled(expr, WINDOW, "1m"))
    return [value for _, value in found if not math.isnan(value)]


async def test_every_query_of_every_panel_has_data(watched: Watched) -> None:
    empty = [
        f"{panel}: {expr}"
        for panel in everything()
        for expr, _ in panel.queries
        if not await values_of(watched, expr)
    ]
    assert empty == []


async def test_nothing_fires_while_all_is_well(watched: Watched) -> None:
    """But for what takes long: how long is up to the machine, and promtool tries those."""
    fired = {name for name, _ in map(told, await watched.firing())}
    assert fired <= OF_LATENCY
    assert watched.answers > 0
    assert await seen(watched) == set()


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_alerts_come_and_go_with_the_trouble(watched: Watched, case: Case) -> None:
    for alert in case.alerts:
        await watched.is_over(alert)  # that of an earlier trouble
    watched.receiver.forget()
    async with case.trouble(watched):
        for name, severity in case.alerts:
            fired = await watched.fires((name, severity))
            assert fired["annotations"]["summary"]
            assert "{{" not in fired["annotations"]["summary"]
            notice = await watched.receiver.told(name, severity, "firing")
            assert notice["annotations"]["runbook_url"] == f"docs/runbooks/{name}.md"
        if case.sign:
            await only_sign(watched, case)
    for name, severity in case.alerts:
        await watched.is_over((name, severity))
        await watched.receiver.told(name, severity, "resolved")


async def only_sign(watched: Watched, case: Case) -> None:
    """Returns once the boards show this trouble, and none that they would show otherwise."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await seen(watched) != {case.name}:  # noqa: ASYNC110 (behind a socket)
            await asyncio.sleep(0.2)


async def seen(watched: Watched) -> set[str]:
    """The troubles that a stranger sees on the boards now."""
    return {name for name, sign in SIGNS.items() if await sign.is_there(watched)}
