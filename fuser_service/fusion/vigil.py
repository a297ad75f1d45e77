"""How long a query waits for its members to wake. Pure: all times are seconds of one clock."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(slots=True)
class Vigil:
    """The wait of one query, until `until` at the latest.

    It is over once all `members` are awake, or a `quorum` of them has been for `grace_seconds`: who
    wakes first is not to answer alone where the others are about to wake as well.
    """

    members: int
    quorum: int
    until: float
    grace_seconds: float
    _others_until: float = math.inf

    def over(self, awake: int, now: float) -> bool:
        """Whether there is no more to wait for, now that so many are awake."""
        if awake < self.quorum:
            self._others_until = math.inf
        elif math.isinf(self._others_until):
            self._others_until = now + self.grace_seconds
        return awake >= self.members or now >= self.ends

    @property
    def ends(self) -> float:
        """When it is over if nobody wakes, or falls asleep, before."""
        return min(self.until, self._others_until)
