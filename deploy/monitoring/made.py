"""Every file that is made, and its text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from deploy.monitoring import reference
from deploy.monitoring.alerts import chart, plain, values
from deploy.monitoring.boards import ensemble, grafana, members, rounds, teams

REPOSITORY: Final = Path(__file__).parents[2]

RULES: Final = REPOSITORY / "deploy" / "monitoring" / "specfuse.rules.yaml"
"""The rules for a Prometheus without an operator."""

BOARDS: Final = (ensemble.BOARD, rounds.BOARD, members.BOARD, teams.BOARD)
DASHBOARDS: Final = values.CHART / "dashboards"

_TEMPLATE: Final = values.CHART / "templates" / "monitoring" / "prometheusrule.yaml"
_PAGE: Final = REPOSITORY / "docs" / "metrics.md"


def files() -> Iterator[tuple[Path, str]]:
    """The files and what should be in them.

    Raises:
        ValueError: a page has no marker where its made part begins.
    """
    yield _PAGE, reference.completed(_PAGE.read_text())
    yield RULES, plain.text(values.read())
    yield _TEMPLATE, chart.template()
    for board in BOARDS:
        yield DASHBOARDS / f"{board.name}.json", grafana.text(board)
