"""The report in charts. Needs matplotlib, which nothing else here does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from specfuse.eval.records import SystemKind
from specfuse.eval.tables import label_of

if TYPE_CHECKING:
    from pathlib import Path

    from specfuse.eval.report import Report

_COLOURS = {
    SystemKind.SINGLE: "tab:gray",
    SystemKind.BEST_RESPONSE: "tab:orange",
    SystemKind.FUSED: "tab:blue",
}
_SIZE_INCHES = (8.0, 5.0)
_DOTS_PER_INCH = 120


def draw(report: Report, directory: Path, stem: str) -> dict[str, str]:
    """Draws the charts into the directory. Returns their file names, by what they show.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    charts = {"Quality against calls": (_quality, f"{stem}-quality.png")}
    if report.of_kind(SystemKind.FUSED):
        charts["Active members by round"] = (_active, f"{stem}-active.png")
    for draw_on, name in charts.values():
        _save(report, draw_on, directory / name)
    return {shows: name for shows, (_, name) in charts.items()}


def _save(report: Report, draw_on: Any, path: Path) -> None:  # noqa: ANN401 (matplotlib is untyped)
    from matplotlib.figure import Figure  # noqa: PLC0415 (only charts need it)

    figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
    axes = figure.add_subplot()
    draw_on(report, axes)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=_DOTS_PER_INCH)


def _quality(report: Report, axes: Any) -> None:  # noqa: ANN401
    for system, one in report.summaries.items():
        x, y = one.calls_per_question, one.exact.value
        low, high = one.exact.interval
        colour = _COLOURS[system.kind]
        axes.errorbar(x, y, yerr=[[y - low], [high - y]], fmt="o", color=colour, capsize=2)
        axes.annotate(label_of(system), (x, y), (5, 4), textcoords="offset points", fontsize=7)
    axes.set(
        xlabel="calls to models per question", ylabel="exact whole answers", ylim=(-0.03, 1.05)
    )


def _active(report: Report, axes: Any) -> None:  # noqa: ANN401
    for name, one in report.of_kind(SystemKind.FUSED).items():
        rounds = range(1, len(one.active_by_round) + 1)
        axes.plot(rounds, one.active_by_round, marker=".", label=name)
    axes.set(xlabel="round", ylabel="mean active members", ylim=(0, None))
    axes.legend(fontsize=7)
