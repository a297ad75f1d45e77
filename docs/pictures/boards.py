"""Draws the dashboards from what a real Prometheus recorded of a mesh in trouble.

`make boards` plays a short game day on this machine: a mesh of scripted members, a fuser, two
teams; first all is well, then one trouble comes after the other. Each panel's queries are asked for
the whole time, and drawn where the panel is, to `docs/pictures/boards`. Grafana draws more
beautifully; what is to be seen is the same.
"""

from __future__ import annotations

import asyncio
import math
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from tests.monitoring.boards import FILES, Shown, filled, read, shown
from tests.monitoring.troubles import (
    Slow,
    Trouble,
    done_by,
    overload,
    team_at_its_limit,
)
from tests.monitoring.watched import SCRAPED_SECONDS, WINDOW, Watched, watched_mesh
from tests.robustness.faults import Killed

HERE: Final = Path(__file__).parent / "boards"
WELL_SCRAPES, TROUBLE_SECONDS, REST_SECONDS = 18, 20.0, 15.0
STEP_SECONDS = 1.0
TROUBLES: Final[Mapping[str, Trouble]] = {
    "slow member": done_by(Slow("gamma-0")),
    "dead member": done_by(Killed("gamma-0")),
    "overload": overload,
    "team at its limit": team_at_its_limit,
}
INCHES_WIDE, INCHES_A_LINE = 20.0, 0.36
MOST_NAMED = 12
UNITS: Final = {"s": "s", "reqps": "requests/s", "cps": "1/s", "bytes": "bytes", "d": "days"}

Series = tuple[Mapping[str, str], list[tuple[float, float]]]


@dataclass
class Day:
    """When it began and ended, and what happened from when to when."""

    began: float
    ended: float
    troubles: list[tuple[str, float, float]]


async def play(watched: Watched) -> Day:
    """Lets one trouble come after the other."""
    await watched.scraped(WELL_SCRAPES)
    began = await _now(watched) - WELL_SCRAPES * SCRAPED_SECONDS
    troubles = []
    for name, trouble in TROUBLES.items():
        since = await _now(watched)
        async with trouble(watched):
            await asyncio.sleep(TROUBLE_SECONDS)
        troubles.append((name, since, await _now(watched)))
        await asyncio.sleep(REST_SECONDS)
    return Day(began + float(WINDOW.removesuffix("s")), await _now(watched), troubles)


async def _now(watched: Watched) -> float:
    ((_, now),) = await watched.prometheus.query("vector(time())")
    return now


async def draw(watched: Watched, board: str, day: Day) -> Path:
    """Draws a board with what its queries came to in the course of the day."""
    panels = list(shown(board))
    lines = max(panel.place["y"] + panel.place["h"] for panel in panels) + 1
    figure = plt.figure(figsize=(INCHES_WIDE, lines * INCHES_A_LINE), facecolor="#f4f5f5")
    figure.suptitle(read(board)["title"], x=0.01, y=0.998, ha="left", fontsize=16, weight="bold")
    for panel in panels:
        axes = _axes(figure, panel, lines)
        axes.set_title(panel.title, loc="left", fontsize=9, weight="bold")
        span = f"{day.ended - day.began:.0f}s"
        answers = [
            (
                legend,
                await watched.prometheus.over(
                    filled(expr, WINDOW, span), day.began, day.ended, STEP_SECONDS
                ),
            )
            for expr, legend in panel.queries
        ]
        if any(series for _, series in answers):
            _KINDS[panel.kind](axes, panel, answers, day)
        else:
            _say(axes, panel.description.partition(". ")[0] if panel.needs_more else "no data")
    HERE.mkdir(exist_ok=True)
    file = HERE / f"{board}.png"
    figure.savefig(file, dpi=70)
    plt.close(figure)
    return file


def _axes(figure: Figure, panel: Shown, lines: int) -> Axes:
    place = panel.place
    left, width = place["x"] / 24, place["w"] / 24
    bottom, height = 1 - (place["y"] + place["h"] + 1) / lines, place["h"] / lines
    return figure.add_axes(
        (left + 0.022, bottom + 0.85 / lines, width - 0.034, height - 2.0 / lines)
    )


def _lines(
    axes: Axes, panel: Shown, answers: Sequence[Any], day: Day, *, stack: bool = False
) -> None:
    named = [
        (_named(legend, labels), [(at - day.began, value) for at, value in points])
        for legend, series in answers
        for labels, points in series
    ]
    said = [one for one in named if any(value > 0 for _, value in one[1])]
    named = said or named
    if stack:
        moments = sorted({at for _, points in named for at, _ in points})
        heights = [[dict(points).get(at, 0.0) or 0.0 for at in moments] for _, points in named]
        heights = [[0.0 if math.isnan(one) else one for one in line] for line in heights]
        axes.stackplot(moments, heights, labels=[name for name, _ in named], alpha=0.7)
    else:
        for name, points in named:
            axes.plot(*zip(*points, strict=True), label=name, linewidth=1.2)
    axes.set_ylim(bottom=0)
    axes.set_xlim(0, day.ended - day.began)
    axes.set_ylabel(UNITS.get(panel.unit, ""), fontsize=7)
    if panel.unit == "percentunit":
        axes.yaxis.set_major_formatter(mpl.ticker.PercentFormatter(1.0))
    _mark(axes, day)
    if named and len(named) <= MOST_NAMED:
        axes.legend(fontsize=6, loc="upper left", ncols=2, framealpha=0.6)


def _stack(axes: Axes, panel: Shown, answers: Sequence[Any], day: Day) -> None:
    _lines(axes, panel, answers, day, stack=True)


def _timeseries(axes: Axes, panel: Shown, answers: Sequence[Any], day: Day) -> None:
    custom = next(
        one["fieldConfig"]["defaults"]["custom"]
        for one in read(panel.board)["panels"]
        if one["title"] == panel.title
    )
    _lines(axes, panel, answers, day, stack=custom.get("stacking", {}).get("mode") == "normal")


def _heatmap(axes: Axes, panel: Shown, answers: Sequence[Any], day: Day) -> None:
    ((_, series),) = answers
    buckets = sorted(((float(labels["le"]), dict(points)) for labels, points in series), key=_first)
    moments = sorted({at for _, points in buckets for at in points})
    counts = [[points.get(at, 0.0) for at in moments] for _, points in buckets]
    below = [[0.0] * len(moments), *counts[:-1]]
    cells = [
        [max(0.0, upto - less) for upto, less in zip(row, lower, strict=True)]
        for row, lower in zip(counts, below, strict=True)
    ]
    used = [at for at, row in enumerate(cells) if max(row) > 0]
    shown_rows = slice(min(used, default=0), max(used, default=0) + 1)
    rows = cells[shown_rows]
    times = [at - day.began for at in moments]
    axes.pcolormesh(times, range(len(rows)), rows, cmap="Oranges", norm=PowerNorm(0.5))
    edges = [f"{edge:g}" for edge, _ in buckets][shown_rows]
    axes.set_yticks(range(len(rows)), edges)
    axes.set_ylabel(UNITS.get(panel.unit, ""), fontsize=7)
    _mark(axes, day)


def _first(pair: tuple[float, Any]) -> float:
    return pair[0]


def _number(axes: Axes, panel: Shown, answers: Sequence[Any], day: Day) -> None:
    del panel, day
    words = [
        f"{_named(legend, labels)}: {points[-1][1]:g}"
        for legend, series in answers
        for labels, points in series
    ]
    _say(axes, "\n".join(words), size=11)


def _table(axes: Axes, panel: Shown, answers: Sequence[Any], day: Day) -> None:
    del panel, day
    teams = sorted({labels["team"] for _, series in answers for labels, _ in series})
    latest = [
        {labels["team"]: f"{points[-1][1]:.0f}" for labels, points in series}
        for _, series in answers
    ]
    axes.axis("off")
    axes.table(
        [[team, *(column.get(team, "") for column in latest)] for team in teams],
        colLabels=["team", *(legend for legend, _ in answers)],
        loc="upper center",
    )


def _say(axes: Axes, words: str, size: int = 9) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    centre: Any = {"ha": "center", "va": "center", "transform": axes.transAxes}
    axes.text(0.5, 0.5, words, fontsize=size, wrap=True, **centre)


def _mark(axes: Axes, day: Day) -> None:
    """Shades the troubles."""
    axes.tick_params(labelsize=7)
    for name, since, until in day.troubles:
        axes.axvspan(since - day.began, until - day.began, color="#d0021b", alpha=0.07)
        middle = (since + until) / 2 - day.began
        place = axes.get_xaxis_transform()
        axes.text(middle, 0.02, name, fontsize=6, ha="center", va="bottom", transform=place)


def _named(legend: str, labels: Mapping[str, str]) -> str:
    """As Grafana fills in a legend. Addresses are of no interest here."""
    name = re.sub(r"{{(\w+)}}", lambda found: labels.get(found[1], ""), legend)
    return re.sub(r"127\.0\.0\.1:\d+", labels.get("pod", ""), name).strip()


_KINDS: Final = {
    "timeseries": _timeseries,
    "heatmap": _heatmap,
    "stat": _number,
    "table": _table,
}


async def main() -> None:
    """Plays the day, and draws every board."""
    with tempfile.TemporaryDirectory() as folder:
        async with watched_mesh(Path(folder)) as watched:
            day = await play(watched)
            for board in FILES:
                print(await draw(watched, board, day))


if __name__ == "__main__":
    asyncio.run(main())
