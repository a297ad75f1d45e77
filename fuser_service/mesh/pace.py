"""How long a member's calls take, and when one takes longer than they do."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque

KEPT = 100
"""Calls remembered: enough to know a 95th percentile, few enough to follow a change of load."""

FEWEST = 10
"""With fewer calls known, `COLD_SECONDS` is what they take."""

COLD_SECONDS = 1.0

LATE_FACTOR = 2.0
"""A call is late when it takes this multiple of what 95 of 100 calls take."""

SHORTEST_SECONDS = 0.05
"""No call is late before this."""


class Pace:
    """The pace of one kind of call, over all replicas of a member."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque()
        self._ordered: list[float] = []  # the same, kept in order: every call asks when it is late

    def took(self, seconds: float) -> None:
        """A call was answered after this long."""
        if len(self._seconds) == KEPT:
            oldest = self._seconds.popleft()
            del self._ordered[bisect_left(self._ordered, oldest)]
        self._seconds.append(seconds)
        insort(self._ordered, seconds)

    @property
    def late_seconds(self) -> float:
        """From when on a call in flight is late."""
        known = len(self._ordered)
        if known < FEWEST:
            return COLD_SECONDS
        most = self._ordered[math.ceil(0.95 * known) - 1]
        return max(SHORTEST_SECONDS, LATE_FACTOR * most)
