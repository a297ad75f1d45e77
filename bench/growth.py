"""What to make of load that was offered: whether it was kept up with, and what gave out first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

KEPT_UP: Final = 0.9
"""Fewer answers than this part of those asked for, and a queue grows somewhere."""
PATIENCE: Final = 2.0
"""How many times as long as without load 99 of 100 answers may take."""

_BUSY_FUSER: Final = 0.8
_BUSY_MACHINE: Final = 0.9
_BUSY_CALLERS: Final = 0.8
_WAITING: Final = 0.2


@dataclass(frozen=True, slots=True)
class Load:
    """An offered load and what became of it. Rates are answers a second, times are seconds.

    `fuser_busy` is the busiest fuser's part of the processor time that a fuser can use, which is at
    most one core; `machine_busy` that of all cores, whoever used them, and `others_busy` what no
    part of the mesh did; `callers_busy` of the core that asks. `member_wait` is how long a call
    waited for a place, in its service times; `again` the part of calls that were made again.
    """

    offered: float
    answered: float
    failed: int
    first_p50: float
    first_p99: float
    answer_p50: float
    answer_p99: float
    fuser_busy: float
    machine_busy: float
    others_busy: float
    callers_busy: float
    member_wait: float
    again: float

    def kept_up(self, unloaded: float) -> bool:
        """Whether answers came as fast as they were asked for, and hardly later than unloaded."""
        enough = self.answered >= KEPT_UP * self.offered
        return enough and not self.failed and self.answer_p99 <= PATIENCE * unloaded

    def exhausted(self) -> tuple[str, ...]:
        """What has nothing left to give."""
        found = {
            "fusers": self.fuser_busy >= _BUSY_FUSER,
            "members": self.member_wait >= _WAITING,
            "this machine": self.machine_busy >= _BUSY_MACHINE,
            "the callers": self.callers_busy >= _BUSY_CALLERS,
        }
        return tuple(name for name, is_so in found.items() if is_so)


@dataclass(frozen=True, slots=True)
class Knee:
    """How far growing loads were kept up with.

    `most` is the largest that was, 0 if none; `first_lost` the next one, None if all were kept up
    with; `because` what was exhausted then.
    """

    most: float
    first_lost: float | None
    because: tuple[str, ...]


def knee(loads: Sequence[Load], unloaded: float) -> Knee:
    """Where loads, in growing order, are no longer kept up with; `unloaded` seconds an answer."""
    most = 0.0
    for load in loads:
        if not load.kept_up(unloaded):
            return Knee(most, load.offered, load.exhausted())
        most = load.offered
    return Knee(most, None, ())


def members_capacity(replicas: int, places: int, seconds_an_answer: float) -> float:
    """Answers a second for which a member's replicas have places, each taken for so long."""
    return replicas * places / seconds_an_answer


def fusers_capacity(fusers: int, cores: float, processor_seconds: float) -> float:
    """Answers a second for which fusers have time, that use so many cores each."""
    return fusers * min(cores, 1.0) / processor_seconds
