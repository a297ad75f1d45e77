"""Which members can be asked, and queries that wait for those that cannot be yet.

Members that are not needed may be scaled to nothing, replicas and all. A query for them is then
held, and told of as one that counts on all members of its ensemble: that is what wakes them, all
together. It is told of so until it is over, or they might fall asleep again before it asks them.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final

from fuser_service.core.types import MemberName
from fuser_service.fusion.ports import FusionObserver, Member
from fuser_service.fusion.presence import Presence
from fuser_service.fusion.query import Query
from fuser_service.fusion.vigil import Vigil
from specfuse.deadline import Deadline
from specfuse.errors import DeadlineExceeded, Overloaded, ShuttingDown, Unavailable

ASK_AGAIN_SECONDS: Final = 5
"""When to ask again if members did not wake in time. Soon: to be waited for is what wakes them."""


class Readiness:
    """Knows the members, and holds queries: of each ensemble at most `most_held` at a time."""

    def __init__(
        self, members: Mapping[MemberName, Member], observer: FusionObserver, most_held: int
    ) -> None:
        self._members = dict(members)
        self._observer = observer
        self._most_held = most_held
        self._held: Counter[str] = Counter()
        self._changed = asyncio.Event()
        self._ended = False
        for member in self._members.values():
            member.when_changed(self.look_again)

    def ready(self, members: Collection[MemberName]) -> tuple[MemberName, ...]:
        """Those of the members that are thought to be able to answer, in their order."""
        return tuple(member for member in members if self._members[member].ready)

    def awake(self, members: Collection[MemberName]) -> int:
        """How many of the members have replicas that serve, however they fared with calls."""
        return sum(self._members[member].awake for member in members)

    def presence(self, ensemble: str) -> Presence:
        """That of a query of the ensemble, which counts on nobody yet."""
        return Presence(self._observer, ensemble)

    def end(self) -> None:
        """Has nobody wait from now on: the service ends, and others can wait as well."""
        self._ended = True
        self.look_again()

    def look_again(self) -> None:
        """Has everybody who waits look again. Who waits from now on waits for the next time."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def quorum(
        self, query: Query, presence: Presence, deadline: Deadline, stands: Callable[[], bool]
    ) -> None:
        """Holds the query until a quorum of its members is awake, and the others, if they are soon.

        Or until it no longer `stands` when it looks again: its ensemble is another one by now. Then
        whoever holds it has to see anew. From here on its `presence` counts on all its members.

        Raises:
            Overloaded: as many queries as may be are held for the ensemble already.
            Unavailable: too few woke in the ensemble's `wake_seconds`; says when to ask again.
            ShuttingDown: the service ends before enough are awake.
            DeadlineExceeded: the deadline passed before that.
        """
        with self._hold(query.ensemble):
            presence.of(query.rules.members)
            if not await self._wait(query, deadline, stands) and stands():
                raise self._asleep(query, deadline)

    @contextmanager
    def _hold(self, ensemble: str) -> Iterator[None]:
        """Has a query of the ensemble counted as one that waits."""
        if self._held[ensemble] >= self._most_held:
            limit = str(self._most_held)
            raise Overloaded(f"{limit} requests wait for members of {ensemble} to wake, the limit")
        self._held[ensemble] += 1
        self._observer.hold_began(ensemble)
        try:
            yield
        finally:
            self._held[ensemble] -= 1
            self._observer.hold_ended(ensemble)

    async def _wait(self, query: Query, deadline: Deadline, stands: Callable[[], bool]) -> bool:
        """Whether a quorum is awake, once there is no more to wait for."""
        members, quorum = query.rules.members, query.rules.quorum
        timings = query.timings
        until = deadline.within(timings.wake_seconds).at
        vigil = Vigil(len(members), quorum, until, timings.wake_grace_seconds)
        while not vigil.over(awake := self.awake(members), time.monotonic()):
            if self._ended or not stands():
                break
            with suppress(TimeoutError):
                async with asyncio.timeout(Deadline(vigil.ends).timeout):
                    await self._changed.wait()
        return awake >= quorum

    def _asleep(self, query: Query, deadline: Deadline) -> Unavailable | DeadlineExceeded:
        awake = f"{self.awake(query.rules.members)} of {len(query.rules.members)} members are awake"
        if deadline.passed:
            return DeadlineExceeded(f"the caller's time was up while {awake}")
        if self._ended:
            return ShuttingDown(f"{query.ensemble}: {awake}, and the service shuts down; ask again")
        return Unavailable(
            f"{query.ensemble}: {awake} after {query.timings.wake_seconds:g} s, fewer than its "
            f"quorum of {query.rules.quorum}; ask again in {ASK_AGAIN_SECONDS} s",
            retry_after_seconds=str(ASK_AGAIN_SECONDS),
        )
