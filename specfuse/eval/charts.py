"""The report in charts. Needs matplotlib, which nothing else here needs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any, TypeVar

from specfuse.eval.records import SystemKind
from specfuse.eval.report import Report
from specfuse.eval.tables import label_of

_MARKERS = {
    SystemKind.SINGLE: "s",
    SystemKind.BEST_RESPONSE: "D",
    SystemKind.FUSED: "o",
    SystemKind.ORACLE: "^",
}
_SIZE_INCHES = (10.0, 5.0)
_DOTS_PER_INCH = 120
_PALETTE = "tab20"
_LINES = ("-", "--", ":")

Shown = TypeVar("Shown", bound="Hashable")
Group = tuple[str, ...]
"""Labels of systems with the same data."""


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


def grouped(shown: Iterable[tuple[str, Shown]]) -> dict[Group, Shown]:
    """Systems with the same data, grouped: drawn on top of each other, all but one are hidden."""
    labels: defaultdict[Shown, list[str]] = defaultdict(list)
    for label, value in shown:
        labels[value].append(label)
    return {tuple(group): value for value, group in labels.items()}


def _save(report: Report, draw_on: Any, path: Path) -> None:  # noqa: ANN401 (matplotlib is untyped)
    from matplotlib.figure import Figure  # noqa: PLC0415 (only charts need it)

    figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
    axes = figure.add_subplot()
    draw_on(report, axes)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=7)
    figure.savefig(path, dpi=_DOTS_PER_INCH)


def _quality(report: Report, axes: Any) -> None:  # noqa: ANN401
    points = grouped(
        (label_of(system), (system.kind, round(one.calls_per_question, 1), one.exact))
        for system, one in report.summaries.items()
    )
    for (group, (kind, calls, exact)), (colour, _) in zip(points.items(), _styles(), strict=False):
        low, high = exact.interval
        errors = [[exact.value - low], [high - exact.value]]
        style = {"fmt": _MARKERS[kind], "color": colour, "capsize": 2}
        axes.errorbar(calls, exact.value, yerr=errors, label="\n".join(group), **style)
    axes.set(
        xlabel="calls to models per question", ylabel="exact whole answers", ylim=(-0.03, 1.05)
    )


def _active(report: Report, axes: Any) -> None:  # noqa: ANN401
    curves = grouped(
        (name, tuple(round(active, 1) for active in one.active_by_round))
        for name, one in report.of_kind(SystemKind.FUSED).items()
    )
    for (group, curve), (colour, line) in zip(curves.items(), _styles(), strict=False):
        style = {"marker": ".", "color": colour, "linestyle": line}
        axes.plot(range(1, len(curve) + 1), curve, label="\n".join(group), **style)
    axes.set(xlabel="round", ylabel="mean active members", ylim=(0, None))


def _styles() -> Iterator[tuple[Any, str]]:
    """A colour and a kind of line for each of any number of groups."""
    from matplotlib import color_sequences  # noqa: PLC0415

    return cycle((colour, line) for line in _LINES for colour in color_sequences[_PALETTE])
