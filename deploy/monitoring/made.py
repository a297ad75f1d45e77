"""Every file that is made, and its text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from deploy.monitoring import page, reference
from deploy.monitoring.alerts import chart, plain, values
from deploy.monitoring.boards import ensemble, grafana, members, rounds, teams

REPOSITORY: Final = Path(__file__).parents[2]

RULES: Final = REPOSITORY / "deploy" / "monitoring" / "specfuse.rules.yaml"
"""The rules for a Prometheus without an operator."""

BOARDS: Final = (ensemble.BOARD, rounds.BOARD, members.BOARD, teams.BOARD)
DASHBOARDS: Final = values.CHART / "dashboards"

_TEMPLATE: Final = values.CHART / "templates" / "monitoring" / "prometheusrule.yaml"
_METRICS: Final = REPOSITORY / "docs" / "metrics.md"
_MONITORING: Final = REPOSITORY / "docs" / "monitoring.md"


def files() -> Iterator[tuple[Path, str]]:
    """The files and what should be in them.

    Raises:
        ValueError: a page has no marker where its made part begins.
    """
    yield _METRICS, reference.completed(_METRICS.read_text())
    yield _MONITORING, page.completed(_MONITORING.read_text(), BOARDS)
    yield RULES, plain.text(values.read())
    yield _TEMPLATE, chart.template()
    for board in BOARDS:
        yield DASHBOARDS / f"{board.name}.json", grafana.text(board)
