"""Lets requests in: within what their team may have, and while there is a place."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Final

from fuser_service.tenancy.caller import Team
from fuser_service.tenancy.counters import Counters, LocalCounters, share_of
from fuser_service.tenancy.places import Places
from specfuse.deadline import Deadline
from specfuse.errors import RateLimited

_SOON_SECONDS: Final = 1.0
"""When to ask again where nobody can know when an answer ends."""


class Admission:
    """Admits requests. `replicas` as for `LocalCounters`, for the answers at a time."""

    def __init__(self, places: Places, counters: Counters | None = None, replicas: int = 1) -> None:
        self._places = places
        self._counters = counters or LocalCounters(replicas)
        self._replicas = replicas
        self._in_flight: Counter[str] = Counter()

    @asynccontextmanager
    async def admitted(self, team: Team, tokens: Callable[[], int]) -> AsyncIterator[None]:
        """The request is under way while the context lasts. At its end, `tokens` says what it took.

        Raises:
            RateLimited: the team has had what it may have; says when it may ask again.
        """
        with self._one_of_its_own(team):
            await self._within_its_minute(team)
            try:
                yield
            finally:
                if taken := tokens():
                    self._counters.count_tokens(team, taken)

    def place(self, team: Team, deadline: Deadline) -> AbstractAsyncContextManager[None]:
        """A place among those that are answered, for as long as the context lasts.

        Raises:
            Overloaded, DeadlineExceeded: there is none; see `Places`.
        """
        return self._places.place(team.priority, deadline)

    @contextmanager
    def _one_of_its_own(self, team: Team) -> Iterator[None]:
        """Counts those that wait, whatever for: no team may fill the line."""
        limit = team.requests_in_flight
        if limit is not None and self._in_flight[team.name] >= share_of(limit, self._replicas):
            raise _limited("requests_in_flight", limit, _SOON_SECONDS)
        self._in_flight[team.name] += 1
        try:
            yield
        finally:
            self._in_flight[team.name] -= 1

    async def _within_its_minute(self, team: Team) -> None:
        """Counts the request, if the team may make one more."""
        if seconds := await self._counters.tokens_wait(team):
            raise _limited("output_tokens_per_minute", team.output_tokens_per_minute, seconds)
        if seconds := await self._counters.take_request(team):
            raise _limited("requests_per_minute", team.requests_per_minute, seconds)


def _limited(limit: str, value: int | None, seconds: float) -> RateLimited:
    whole = max(1, math.ceil(seconds))
    return RateLimited(
        f"{limit}: the team has had its {value}; ask again in {whole} s",
        limit=limit,
        value=str(value),
        retry_after_seconds=str(whole),
    )
