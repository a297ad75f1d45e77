"""The parts of `docs/monitoring.md` that list the alerts and the panels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from deploy.monitoring.alerts.catalogue import ALERTS
from deploy.monitoring.alerts.rules import Alert
from deploy.monitoring.boards.board import Board, Panel

MARKER: Final = "<!-- alerts and panels -->"
"""What is below this line is made."""

BROUGHT_ABOUT: Final = {
    "CertificateExpiresSoon": "a certificate ends",
    "EnsembleDegraded": "a member is dead",
    "ErrorBudgetBurn": "two members hang",
    "FirstSegmentSlow": "a member is slow",
    "MemberDown": "a member is dead",
    "NoTraffic": "the fuser is dead",
    "OverloadRefusals": "overload",
    "QuorumLost": "two members hang",
    "RoundLatencyHigh": "a member is slow",
    "ScalerInert": "an autoscaler that does nothing",
    "StragglerDominates": "a member is slow",
    "TeamAtLimit": "a team at its limit",
    "WinShareCollapse": "one member knows it all",
}
"""Which trouble of `tests/monitoring/troubles.py` brings an alert about. A test compares."""

_PROMTOOL: Final = "promtool"
_DRAWN: Final = "a real Prometheus over a real mesh"
_UNPROVED: Final = "its query is parsed; its series are not there in a mesh of scripted members"
_FAKED: Final = ("kube-state-metrics", "DCGM", "TLS")


def completed(text: str, boards: Iterable[Board]) -> str:
    """The page with what its made part should be.

    Raises:
        ValueError: the page has no marker.
    """
    head, marker, _ = text.partition(MARKER)
    if not marker:
        raise ValueError(f"docs/monitoring.md has no line {MARKER}: what is below it is made")
    lines = [head + marker, *_alerts(), *(line for board in boards for line in _board(board))]
    return "\n".join(lines) + "\n"


def _alerts() -> Iterator[str]:
    yield from (
        "",
        "## Alerts",
        "",
        "| alert | severity | for | proof |",
        "| --- | --- | --- | --- |",
    )
    for alert in ALERTS:
        name = f"[{alert.name}](runbooks/{alert.runbook})"
        yield f"| {name} | {alert.severity} | {alert.lasting} | {_proof(alert)} |"


def _proof(alert: Alert) -> str:
    file = f"[{_PROMTOOL}](../tests/monitoring/rules/{alert.name}.yaml)"
    trouble = BROUGHT_ABOUT.get(alert.name)
    return f"{file}; in a mesh: {trouble}" if trouble else file


def _board(board: Board) -> Iterator[str]:
    yield from ("", f"## {board.title.removeprefix('SpecFuse / ')}", "", board.description, "")
    yield from (f"![{board.title}](pictures/boards/{board.name}.png)", "")
    yield from ("| panel | what it shows | proof |", "| --- | --- | --- |")
    for panel in board.panels:
        yield f"| {panel.title} | {panel.said} | {_drawn(panel)} |"


def _drawn(panel: Panel) -> str:
    if not panel.needs:
        return _DRAWN
    faked = any(one in panel.needs for one in _FAKED)
    return f"{_DRAWN}, beside a stand-in for what it needs" if faked else _UNPROVED
