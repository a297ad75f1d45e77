"""What a run under a fault came to, in numbers, and the report of all runs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import median

from tests.robustness.history import Answered, End, Failed, History

STEADY = 8
"""So many whole answers, one after the other, and the mesh counts as recovered."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A run's numbers. Seconds are of wall clock; NaN where there is nothing to measure.

    `slowdown` is the median time of answers under the fault by the one before it.
    `recovered_under_fault` is how long after its beginning answers were whole again although it
    lasted, `recovered` the same after it was healed.
    """

    fault: str
    asked: int
    lost: int
    degraded: int
    short: int
    resumed: int
    usual_seconds: float
    slowdown: float
    recovered_under_fault: float
    recovered: float


@dataclass(frozen=True, slots=True)
class Times:
    """When the fault began, and when it was healed."""

    faulted: float
    healed: float


def measure(fault: str, history: History, times: Times, *, lasting: bool) -> Measured:
    """The numbers of a run. `lasting`: the mesh was to recover while the fault was there."""
    answers = [end for end in history.ends if isinstance(end, Answered)]
    usual = _median_seconds(history, (end for end in history.ends if end.at < times.faulted))
    under = history.ends_of(asked_from=times.faulted, asked_to=times.healed)
    recovered_early = recovery(history, times.faulted, times.healed) if lasting else math.nan
    return Measured(
        fault=fault,
        asked=len(history.asked),
        lost=sum(isinstance(end, Failed) for end in history.ends),
        degraded=sum(end.degraded for end in answers),
        short=sum(bool(end.absent) and not end.degraded for end in answers),
        resumed=sum(bool(end.resumed) for end in answers),
        usual_seconds=usual,
        slowdown=_median_seconds(history, under) / usual,
        recovered_under_fault=recovered_early,
        recovered=recovery(history, times.healed),
    )


def recovery(history: History, since: float, until: float = math.inf) -> float:
    """Seconds from `since` to the first question from which on all answers were whole.

    Only what was asked before `until` counts.
    """
    impaired = [
        history.asked[end.call].at
        for end in history.ends_of(asked_from=-math.inf, asked_to=until)
        if end.at >= since and not _is_whole(end)
    ]
    last = max(impaired, default=since)
    good = [history.asked[end.call].at for end in history.ends_of(asked_from=last, asked_to=until)]
    return max(0.0, min((at for at in good if at > last), default=math.nan) - since)


def has_recovered(history: History, since: float) -> bool:
    """Whether the latest answers to questions asked since then were all whole."""
    latest = sorted(history.ends_of(asked_from=since), key=lambda end: end.call)[-STEADY:]
    return len(latest) == STEADY and all(map(_is_whole, latest))


def write_report(rows: Iterable[Measured], directory: Path) -> None:
    """Writes the numbers to `robustness.json` and, as a table, to `robustness.md`."""
    rows = list(rows)
    directory.mkdir(parents=True, exist_ok=True)
    document = json.dumps([asdict(row) for row in rows], indent=2)
    (directory / "robustness.json").write_text(document + "\n")
    names = [field.name for field in fields(Measured)]
    lines = [names, ["---"] * len(names), *([_shown(row, name) for name in names] for row in rows)]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    (directory / "robustness.md").write_text(table.replace("_", " "))


def _shown(row: Measured, name: str) -> str:
    value = getattr(row, name)
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.2f}"
    return str(value)


def _is_whole(end: End) -> bool:
    return isinstance(end, Answered) and end.whole


def _median_seconds(history: History, ends: Iterable[End]) -> float:
    return median([history.seconds(end) for end in ends] or [math.nan])
