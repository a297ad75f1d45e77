"""One call of a member, made at as many of its replicas as it takes.

Every call is complete in itself, so any replica may be asked it, and more than one. A replica that
is UNAVAILABLE hands the call to another, or is asked once more if there is no other. One that has
no room hands it to another, too, if the budget has a call to spare: where all are full, moving
calls around is more load for everybody. One that is late has company: a second replica is asked,
the first answer counts, and the query stays with whoever gave it. Who loses such a race is late
where a sibling is not, which its breaker remembers.

All of that is among replicas of the lineage that the query began with. Where only others are left,
the query is done with the member.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, Literal, TypeVar

from fuser_service.mesh.budget import Budget
from fuser_service.mesh.discovery.port import Address
from fuser_service.mesh.lineage import Lineage
from fuser_service.mesh.pace import Pace
from fuser_service.mesh.pool import Hold, Pool
from fuser_service.mesh.race import Race
from fuser_service.mesh.replica import Answered, Replica
from fuser_service.mesh.spans import CallSpans
from specfuse.deadline import Deadline
from specfuse.errors import Overloaded, RevisionLost, SpecFuseError, Unavailable

Response = TypeVar("Response")

SecondCall = Literal["moved", "repeated", "hedged"]
"""Why a call is made again: its replica was UNAVAILABLE, or had no room, and there is another; it
was UNAVAILABLE and there is no other; or it is late."""

ATTEMPTS = 3
"""Most times that one call is made because replicas were UNAVAILABLE, or had no room."""

RETRY_JITTER_SECONDS = 0.05
"""Longest pause before the next attempt; random, so that not all fusers move at once."""


@dataclass(slots=True)
class Attempts(Generic[Response]):
    """A call about to be made for a query, of which `hold` is what it holds on to.

    `send` makes it at one replica; `pace` is that of such calls.

    `second_call` is told of every call made beyond the first, and why: `latest` of the last one.
    """

    pool: Pool
    hold: Hold
    send: Callable[[Replica, Deadline], Awaitable[Answered[Response]]]
    pace: Pace
    budget: Budget
    second_call: Callable[[SecondCall], None]
    spans: CallSpans
    latest: SecondCall | None = None
    tried: set[Address] = field(default_factory=set)
    hedged_at: Replica | None = None

    async def run(self, deadline: Deadline) -> Response:
        """The first response.

        Raises:
            RevisionLost: there are replicas, and none of the lineage that the query began with.
            Unavailable: no replica could be reached, or none is known.
            Overloaded: a replica has no room, and there is no other to ask instead.
            SpecFuseError: what a replica answered.
        """
        self.budget.called()
        replica = self._next()
        failure: SpecFuseError = Unavailable(
            f"no replica can be reached of the {len(self.pool.addresses)} that it has"
        )
        for _ in range(ATTEMPTS):
            if replica is None:
                break
            try:
                return await self._race(replica, deadline)
            except (Unavailable, Overloaded) as error:
                failure = error
            replica = None if deadline.passed else self._after(failure, replica)
            if replica is not None:
                await asyncio.sleep(random.uniform(0, RETRY_JITTER_SECONDS))  # noqa: S311
        if self.pool.addresses and not self.pool.has(self.hold.lineage):
            raise RevisionLost(
                f"only replicas of other revisions than the query began with, {self.hold.lineage}, "
                "are left"
            )
        raise failure

    def _next(self) -> Replica | None:
        """A replica that was not tried yet, from now on tried."""
        replica = self.pool.pick(self.hold, self.tried)
        if replica is not None:
            self.tried.add(replica.address)
        return replica

    def _after(self, failure: SpecFuseError, replica: Replica) -> Replica | None:
        """The replica to ask next, when this one failed; None if there is none to ask."""
        if isinstance(failure, Overloaded):
            return self._roomier()
        return self._other() or self._again(replica)

    def _roomier(self) -> Replica | None:
        """Another replica, if the budget has a call to spare."""
        if self.budget.left and (other := self._other()) is not None:
            self.budget.spend()
            return other
        return None

    def _other(self) -> Replica | None:
        replica = self._next()
        if replica is not None:
            self._once_more("moved")
        return replica

    def _again(self, replica: Replica) -> Replica | None:
        """The same replica, as there is no other: its connection may have broken, and no more."""
        usable = replica.allowed and replica.may_be(self.hold.lineage)
        if not (usable and self.budget.left):
            return None
        self.budget.spend()
        self._once_more("repeated")
        return replica

    def _once_more(self, why: SecondCall) -> None:
        self.latest = why
        self.second_call(why)

    async def _race(self, replica: Replica, deadline: Deadline) -> Response:
        """The response of this replica, or of another that is faster once this one is late."""
        race: Race[Answered[Response]] = Race()
        late = deadline.within(self.pace.late_seconds).remaining
        hedge = partial(self._hedge, race, deadline)
        timer = asyncio.get_running_loop().call_later(late, hedge)
        self.hedged_at = None
        try:
            answered = await race.run(self._timed(replica, deadline, self.latest))
        finally:
            timer.cancel()
            await race.stop()
        self._won(replica, race, answered.lineage)
        return answered.response

    async def _timed(
        self, replica: Replica, deadline: Deadline, why: SecondCall | None
    ) -> Answered[Response]:
        began = time.monotonic()
        with self.spans.attempt(replica.address, why):
            answered = await self.send(replica, deadline)
        self.pace.took(time.monotonic() - began)
        return answered

    def _hedge(self, race: Race[Answered[Response]], deadline: Deadline) -> None:
        """Asks another replica as well, if there is one and the budget has a call to spare."""
        if deadline.passed or not self.budget.left:
            return
        if (other := self._next()) is not None:
            self.budget.spend()
            self._once_more("hedged")
            self.hedged_at = other
            race.join(self._timed(other, deadline, self.latest))

    def _won(self, first: Replica, race: Race[Answered[Response]], lineage: Lineage) -> None:
        """Has the query stay with the winner.

        A call that was still being made when one made later was answered was slower. Of one made
        later itself, nothing is known: it may have had no time.
        """
        winner = first
        if race.second_won and self.hedged_at is not None:
            winner = self.hedged_at
            if race.overtaken and winner.address != first.address:
                first.outpaced_by_sibling()
        self.pool.keep(self.hold, winner, lineage)
