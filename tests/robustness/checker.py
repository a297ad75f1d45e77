"""Judges a run by its history. Pure.

A run is good if every question came to one end in time, and every end is one of these:

- the right answer: what the same question is answered when nothing is wrong;
- another answer that owns up to it: it is degraded, and names who was lost or missed rounds;
- an error from the documented list, which says where the answer stands if any of it does.

A run that shows nothing is not good either: one with too little traffic, or with a fault that
nobody noticed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from statistics import median
from typing import Final

from specfuse.errors import DeadlineExceeded, Overloaded, QuorumLost, ShuttingDown, Unavailable
from tests.robustness.history import Answered, Asked, End, Failed, History

DOCUMENTED: Final = frozenset(
    error.__name__
    for error in (Unavailable, ShuttingDown, QuorumLost, Overloaded, DeadlineExceeded)
)
"""Errors that a caller must expect of a mesh in trouble. Any other is a defect."""

GRACE_SECONDS: Final = 1.0
"""An end may come so much later than the deadline."""

_LATE_FACTOR = 2.0
"""A call is late if it takes this multiple of what calls usually took before the fault."""


class Rule(StrEnum):
    """What a run must keep."""

    ONE_END = "every question comes to exactly one end"
    IN_TIME = "no end comes later than its deadline and a second"
    RIGHT = "an answer is right, or owns up to who was missing"
    NAMED = "an answer is degraded just if it names who was missing, and it names all of them"
    WHOLE_TEXT = "the segments, one after the other, are the text"
    DOCUMENTED = "an error is one of the documented ones"
    RESUMABLE = "an error says where the answer stands, which is what its caller received"
    FEW_FAIL = "no more questions fail than may"
    TRAFFIC = "there is enough traffic, before the fault and under it"
    EFFECT = "somebody noticed the fault"


@dataclass(frozen=True, slots=True)
class Problem:
    """A rule that was broken, by which call if by one, and how."""

    rule: Rule
    detail: str
    call: int | None = None


@dataclass(frozen=True, slots=True)
class Demands:
    """What a run is held to.

    `reference` are the right answers, `faulted_at` when the fault began; at least `least` questions
    must come to their ends before it, and as many that were asked under it. At most `most_failed`
    may fail. `noticed` says that the services noticed the fault, even if no caller did.
    """

    reference: Mapping[str, str]
    faulted_at: float
    least: int = 5
    most_failed: int = 0
    noticed: bool = False


def check(history: History, demands: Demands) -> list[Problem]:
    """All that is wrong with the run."""
    return [*_per_call(history, demands), *_of_the_run(history, demands)]


def check_calls(history: History, reference: Mapping[str, str]) -> list[Problem]:
    """All that is wrong with its calls: for runs in which no fault is injected."""
    return list(_per_call(history, Demands(reference, faulted_at=float("inf"))))


def _per_call(history: History, demands: Demands) -> Iterator[Problem]:
    yield from _ends(history)
    for end in history.ends:
        asked = history.asked[end.call]
        yield from _in_time(asked, end)
        if isinstance(end, Answered):
            yield from _answer(end, demands.reference[asked.question])
        else:
            yield from _error(end)


def _of_the_run(history: History, demands: Demands) -> Iterator[Problem]:
    failed = Counter(end.error for end in history.ends if isinstance(end, Failed))
    if failed.total() > demands.most_failed:
        yield Problem(Rule.FEW_FAIL, f"{dict(failed)}, at most {demands.most_failed} may")
    before = [end for end in history.ends if end.at < demands.faulted_at]
    under = history.ends_of(asked_from=demands.faulted_at)
    if min(len(before), len(under)) < demands.least:
        yield Problem(Rule.TRAFFIC, f"{len(before)} before the fault and {len(under)} under it")
    if not (demands.noticed or any(_unusual(history, before))):
        yield Problem(Rule.EFFECT, "no call failed, was resumed, late, or short of a member")


def _ends(history: History) -> Iterator[Problem]:
    ends = Counter(end.call for end in history.ends)
    for asked in history.asked:
        if ends[asked.call] != 1:
            yield Problem(Rule.ONE_END, f"{ends[asked.call]} ends", asked.call)


def _in_time(asked: Asked, end: End) -> Iterator[Problem]:
    late = end.at - asked.at - asked.timeout
    if late > GRACE_SECONDS:
        yield Problem(Rule.IN_TIME, f"{late:.1f} s after its deadline", end.call)


def _answer(end: Answered, right: str) -> Iterator[Problem]:
    if end.text != right and not end.degraded:
        yield Problem(Rule.RIGHT, f"{end.text!r} for {right!r}", end.call)
    named = {*end.lost, *end.missed}
    if end.degraded != bool(named) or end.absent - named:
        told = f"degraded {end.degraded}, lost {end.lost}, missed {end.missed}"
        yield Problem(Rule.NAMED, f"{told}; absent {sorted(end.absent)}", end.call)
    if "".join(end.segments) != end.text:
        yield Problem(Rule.WHOLE_TEXT, f"{end.segments} for {end.text!r}", end.call)


def _error(end: Failed) -> Iterator[Problem]:
    if end.error not in DOCUMENTED:
        yield Problem(Rule.DOCUMENTED, end.error, end.call)
    if (end.resume or ()) != end.segments:
        yield Problem(Rule.RESUMABLE, f"{end.resume} after {end.segments}", end.call)


def _unusual(history: History, before: Iterable[End]) -> Iterator[bool]:
    """Of every end whether there is anything unusual about it."""
    is_late = _lateness(history, before)
    for end in history.ends:
        yield isinstance(end, Failed) or bool(end.resumed) or not end.whole or is_late(end)


def _lateness(history: History, before: Iterable[End]) -> Callable[[End], bool]:
    """Says of an end whether it took much longer than calls usually did before the fault."""
    seconds = [history.seconds(end) for end in before]
    usual = median(seconds) if seconds else float("inf")
    return lambda end: history.seconds(end) > _LATE_FACTOR * usual
