"""What a run under a fault came to, in numbers, and the report of all runs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from statistics import median

from tests.robustness.history import Answered, End, Failed, History

STEADY = 8
"""So many whole answers, one after the other, and the mesh counts as recovered."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A run's numbers. Seconds are of wall clock; NaN where there is nothing to measure.

    `slowdown` is the median time of answers under the fault by the one before it.
    `recovered_under_fault` is how long after its beginning the last answer came that it cost a
    member, or an error in its place, although it lasted; `recovered` the same after it was healed.
    `renewed_under_fault` and `renewed` are how long after them the last question was asked that
    fared so: an answer that was begun before may lack somebody until its end.
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
    renewed_under_fault: float
    recovered: float
    renewed: float


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
    early = (times.faulted, times.healed)
    return Measured(
        fault=fault,
        asked=len(history.asked),
        lost=sum(isinstance(end, Failed) for end in history.ends),
        degraded=sum(bool(end.lost) for end in answers),
        short=sum(bool(end.missed) and not end.lost for end in answers),
        resumed=sum(bool(end.resumed) for end in answers),
        usual_seconds=usual,
        slowdown=_median_seconds(history, under) / usual,
        recovered_under_fault=recovery(history, *early) if lasting else math.nan,
        renewed_under_fault=renewal(history, *early) if lasting else math.nan,
        recovered=recovery(history, times.healed),
        renewed=renewal(history, times.healed),
    )


def recovery(history: History, since: float, until: float = math.inf) -> float:
    """Seconds from `since` to the last answer before `until` that was not whole, or none at all."""
    ends = (end for end in history.ends if since <= end.at < until)
    return max((end.at - since for end in ends if not _is_whole(end)), default=0.0)


def renewal(history: History, since: float, until: float = math.inf) -> float:
    """Seconds from `since` to the last question before `until` whose answer was not whole."""
    ends = history.ends_of(asked_from=since, asked_to=until)
    begun = (history.asked[end.call].at for end in ends if not _is_whole(end))
    return max((at - since for at in begun), default=0.0)


def has_recovered(history: History, since: float) -> bool:
    """Whether nobody waits from before then, and the latest answers since were all whole."""
    latest = sorted(history.ends_of(asked_from=since), key=lambda end: end.call)[-STEADY:]
    waiting = sum(asked.at < since for asked in history.asked) - len(
        history.ends_of(asked_from=-math.inf, asked_to=since)
    )
    return not waiting and len(latest) == STEADY and all(map(_is_whole, latest))


@dataclass(slots=True)
class Report:
    """All that was measured: a row for every fault, and numbers by what they are."""

    rows: list[Measured] = field(default_factory=list)
    numbers: dict[str, float] = field(default_factory=dict)

    def write(self, directory: Path) -> None:
        """Writes it to `robustness.json` and, as tables, to `robustness.md`."""
        directory.mkdir(parents=True, exist_ok=True)
        document = json.dumps(asdict(self), indent=2)
        (directory / "robustness.json").write_text(document + "\n")
        names = [one.name for one in fields(Measured)]
        faults = [[_shown(getattr(row, name)) for name in names] for row in self.rows]
        numbers = [[name, _shown(value)] for name, value in self.numbers.items()]
        tables = (_table(names, faults), _table(["measured", "value"], numbers))
        (directory / "robustness.md").write_text("\n".join(tables))


def _table(names: list[str], rows: Iterable[list[str]]) -> str:
    head = [[name.replace("_", " ") for name in names], ["---"] * len(names)]
    return "".join(f"| {' | '.join(line)} |\n" for line in (*head, *rows))


def _shown(value: object) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.2f}"
    return str(value)


def _is_whole(end: End) -> bool:
    return isinstance(end, Answered) and end.whole


def _median_seconds(history: History, ends: Iterable[End]) -> float:
    return median([history.seconds(end) for end in ends] or [math.nan])
