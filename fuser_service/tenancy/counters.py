"""What a team has had in the last minute: where it is counted, and in this process."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Protocol

from fuser_service.tenancy.caller import Team
from fuser_service.tenancy.window import Window


class Counters(Protocol):
    """Counts teams' requests and output tokens."""

    async def take_request(self, team: Team) -> float:
        """Counts a request, if the team may have one more now: 0. Else the seconds to wait."""

    async def tokens_wait(self, team: Team) -> float:
        """Seconds until the team has had less than its tokens a minute; 0 if that is so now."""

    def count_tokens(self, team: Team, tokens: int) -> None:
        """Counts the tokens of an answer that ended."""

    async def close(self) -> None:
        """Ends what is under way."""


class LocalCounters:
    """Counts in this process. Of `replicas` that are alike, each allows its part of a limit."""

    def __init__(self, replicas: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        self._replicas = replicas
        self._clock = clock
        self._requests: defaultdict[str, Window] = defaultdict(Window)
        self._tokens: defaultdict[str, Window] = defaultdict(Window)

    async def take_request(self, team: Team) -> float:
        """As `Counters` says."""
        if team.requests_per_minute is None:
            return 0.0
        window, now = self._requests[team.name], self._clock()
        seconds = window.wait(now, share_of(team.requests_per_minute, self._replicas))
        if not seconds:
            window.add(now, 1)
        return seconds

    async def tokens_wait(self, team: Team) -> float:
        """As `Counters` says."""
        if team.output_tokens_per_minute is None:
            return 0.0
        limit = share_of(team.output_tokens_per_minute, self._replicas)
        return self._tokens[team.name].wait(self._clock(), limit)

    def count_tokens(self, team: Team, tokens: int) -> None:
        """As `Counters` says."""
        if team.output_tokens_per_minute is not None:
            self._tokens[team.name].add(self._clock(), tokens)

    async def close(self) -> None:
        """Nothing is under way."""


def share_of(limit: int, replicas: int) -> int:
    """A replica's part of a limit: at least 1, or a small limit would shut its team out."""
    return max(1, limit // replicas)
