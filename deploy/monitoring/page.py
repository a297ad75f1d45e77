"""The parts of `docs/monitoring.md` that list the alerts and the panels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from deploy.monitoring.alerts.catalogue import ALERTS
from deploy.monitoring.alerts.rules import Alert, Severity
from deploy.monitoring.boards.board import Board, Panel

MARKER: Final = "<!-- alerts and panels -->"
"""What is below this line is made."""

BROUGHT_ABOUT: Final[Mapping[tuple[str, Severity], str]] = {
    ("CertificateExpiresSoon", "critical"): "a certificate ends",
    ("CertificateExpiresSoon", "warning"): "a certificate ends",
    ("EnsembleDegraded", "warning"): "a member is dead",
    ("ErrorBudgetBurn", "critical"): "two members hang",
    ("ErrorBudgetBurn", "warning"): "two members hang",
    ("FirstSegmentSlow", "warning"): "a member is slow",
    ("KVCacheFull", "warning"): "a cache that is too small",
    ("MemberDown", "warning"): "a member is dead",
    ("MixedRevisions", "warning"): "a rollout that is stuck",
    ("NoTraffic", "critical"): "the fuser is dead",
    ("NoTraffic", "warning"): "nobody asks",
    ("OverloadRefusals", "warning"): "overload",
    ("QuorumLost", "critical"): "two members hang",
    ("RecallStorm", "warning"): "members come and go",
    ("RoundLatencyHigh", "warning"): "a member is slow",
    ("ScalerInert", "warning"): "an autoscaler that does nothing",
    ("StragglerDominates", "warning"): "a member is slow",
    ("TeamAtLimit", "info"): "a team at its limit",
    ("WastedDraftsHigh", "info"): "a word is enough",
    ("WinShareCollapse", "info"): "one member knows it all",
}
"""Which trouble of `tests/monitoring/troubles.py` brings an alert about. A test compares."""

_DRAWN: Final = "a real Prometheus over a real mesh"
_FAKED: Final = ("kube-state-metrics", "DCGM", "another project's server")


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
    file = f"[promtool](../tests/monitoring/rules/{alert.name}.yaml)"
    return f"{file}; in a mesh: {BROUGHT_ABOUT[alert.name, alert.severity]}"


def _board(board: Board) -> Iterator[str]:
    yield from ("", f"## {board.title.removeprefix('SpecFuse / ')}", "", board.description, "")
    yield from (f"![{board.title}](pictures/boards/{board.name}.png)", "")
    yield from ("| panel | what it shows | proof |", "| --- | --- | --- |")
    for panel in board.panels:
        yield f"| {panel.title} | {panel.said} | {_drawn(panel)} |"


def _drawn(panel: Panel) -> str:
    faked = any(one in panel.needs for one in _FAKED)
    return f"{_DRAWN}, beside a stand-in for what it needs" if faked else _DRAWN
