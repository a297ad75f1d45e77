"""Queries that wait for members to wake: by event, counted all the while, and bounded."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from fuser_service.core.rules import Rules
from fuser_service.fusion.query import Query, Timings
from fuser_service.fusion.readiness import ASK_AGAIN_SECONDS, Readiness
from specfuse.deadline import Deadline
from specfuse.errors import (
    DeadlineExceeded,
    Overloaded,
    ShuttingDown,
    SpecFuseError,
    Unavailable,
)
from tests.support.members import RecordingObserver, ScriptedMember, says

NEVER = Deadline.never()
PATIENT = Timings(wake_seconds=3600.0, wake_grace_seconds=3600.0)


class Sleepers:
    """Members that are asleep, and queries for them."""

    def __init__(self, most_held: int = 10) -> None:
        self.members = {name: ScriptedMember(name, says()) for name in "abc"}
        for member in self.members.values():
            member.wakes(awake=False)
        self.observer = RecordingObserver()
        self.readiness = Readiness(self.members, self.observer, most_held)
        self.stand = True

    def query(self, timings: Timings = PATIENT, quorum: int = 2, ensemble: str = "all") -> Query:
        rules = Rules(members=tuple(self.members), max_tokens=1, quorum=quorum)
        return Query(ensemble, rules, "?", "s", timings=timings)

    async def hold(self, query: Query | None = None, deadline: Deadline = NEVER):  # type: ignore[no-untyped-def]
        """A query that waits."""
        held = self.observer.held.total()
        task = asyncio.create_task(self.wait(query or self.query(), deadline))
        await settled()
        assert task.done() or self.observer.held.total() == held + 1
        return task

    async def wait(self, query: Query, deadline: Deadline) -> None:
        """Waits, as a query does that is over then."""
        with self.readiness.presence(query.ensemble) as presence:
            await self.readiness.quorum(query, presence, deadline, lambda: self.stand)

    def wake(self, *names: str, awake: bool = True) -> None:
        for name in names:
            self.members[name].wakes(awake=awake)

    @property
    def counted(self) -> tuple[int, dict[str, int]]:
        """How many are held, and how many count on whom."""
        assert self.observer.held == self.observer.queries
        return self.observer.held["all"], dict(+self.observer.sessions)


async def settled() -> None:
    """Lets all that can go on do so."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_query_goes_on_once_all_are_awake_and_is_counted_for_all_till_then() -> None:
    sleepers = Sleepers()
    assert sleepers.counted == (0, {})
    one, other = await sleepers.hold(), await sleepers.hold()
    assert sleepers.counted == (2, {"a": 2, "b": 2, "c": 2})
    sleepers.wake("a", "c")
    await settled()
    assert not one.done(), "b has its grace"
    sleepers.wake("b")
    await asyncio.gather(one, other)
    assert sleepers.counted == (0, {})


async def test_who_does_not_wake_within_the_grace_is_gone_on_without() -> None:
    sleepers = Sleepers()
    held = await sleepers.hold(sleepers.query(replace(PATIENT, wake_grace_seconds=0.01)))
    sleepers.wake("a")
    await settled()
    assert not held.done(), "one is no quorum"
    sleepers.wake("b")
    await held


async def test_a_quorum_that_falls_asleep_again_is_none() -> None:
    sleepers = Sleepers()
    timings = Timings(wake_seconds=0.3, wake_grace_seconds=0.2)
    held = await sleepers.hold(sleepers.query(timings))
    sleepers.wake("a", "b")
    await settled()
    sleepers.wake("b", awake=False)
    with pytest.raises(Unavailable, match=r"1 of 3 members are awake after 0\.3 s"):
        await held


async def test_beyond_its_time_it_is_told_when_to_ask_again() -> None:
    sleepers = Sleepers()
    sleepers.wake("a")
    held = await sleepers.hold(sleepers.query(Timings(wake_seconds=0.05)))
    with pytest.raises(Unavailable) as caught:
        await held
    assert caught.value.message == (
        "all: 1 of 3 members are awake after 0.05 s, fewer than its quorum of 2; ask again in 5 s"
    )
    assert caught.value.retry_after_seconds == ASK_AGAIN_SECONDS
    assert sleepers.counted == (0, {})


async def test_a_grace_that_outlasts_the_time_to_wake_ends_with_it() -> None:
    sleepers = Sleepers()
    sleepers.wake("a")
    timings = Timings(wake_seconds=0.05, wake_grace_seconds=3600.0)
    held = await sleepers.hold(sleepers.query(timings))
    sleepers.wake("b")
    await held


async def test_the_callers_own_deadline_counts() -> None:
    sleepers = Sleepers()
    held = await sleepers.hold(deadline=Deadline.after(0.05))
    with pytest.raises(DeadlineExceeded, match="0 of 3 members are awake"):
        await held
    assert sleepers.counted == (0, {})


async def test_a_caller_that_goes_away_is_not_counted_any_more() -> None:
    sleepers = Sleepers()
    gone, other = await sleepers.hold(), await sleepers.hold()
    gone.cancel()
    await asyncio.wait({gone})
    assert sleepers.counted == (1, {"a": 1, "b": 1, "c": 1})
    sleepers.wake("a", "b", "c")
    await other
    assert sleepers.counted == (0, {})


async def test_each_ensemble_has_so_many_that_wait_and_no_more() -> None:
    sleepers = Sleepers(most_held=2)
    held = [await sleepers.hold(), await sleepers.hold()]
    refused = await sleepers.hold()
    with pytest.raises(Overloaded, match="2 requests wait for members of all to wake, the limit"):
        await refused
    held.append(await sleepers.hold(sleepers.query(ensemble="other")))
    assert sleepers.observer.held == {"all": 2, "other": 1}
    assert sleepers.observer.sessions["a"] == 3, "who is refused wakes nobody"
    sleepers.wake("a", "b", "c")
    await asyncio.gather(*held)
    sleepers.wake("a", awake=False)
    sleepers.wake("b", awake=False)
    held = [await sleepers.hold(), await sleepers.hold()]
    sleepers.wake("a", "b")
    await asyncio.gather(*held)


async def test_when_the_service_ends_nobody_waits_any_more_who_cannot_be_answered() -> None:
    sleepers = Sleepers()
    hopeless, answered = await sleepers.hold(), await sleepers.hold(sleepers.query(quorum=1))
    sleepers.wake("a")
    await settled()
    sleepers.readiness.end()
    await answered
    for asked in (hopeless, await sleepers.hold()):
        with pytest.raises(ShuttingDown, match="1 of 3 members are awake, and the service shuts"):
            await asked
    assert sleepers.counted == (0, {})


async def test_what_is_held_for_is_another_ensemble_by_now_so_whoever_holds_must_see_anew() -> None:
    sleepers = Sleepers()
    held = await sleepers.hold()
    sleepers.readiness.look_again()
    await settled()
    assert not held.done(), "it is the same still"
    sleepers.stand = False
    sleepers.readiness.look_again()
    await held
    assert sleepers.counted == (0, {})


async def test_a_query_that_was_held_is_counted_until_it_is_left_and_not_twice() -> None:
    sleepers = Sleepers()
    with sleepers.readiness.presence("all") as presence:
        waiting = sleepers.readiness.quorum(sleepers.query(), presence, NEVER, lambda: True)
        held = asyncio.create_task(waiting)
        await settled()
        assert sleepers.counted == (1, {"a": 1, "b": 1, "c": 1})
        sleepers.wake("a", "b", "c")
        await held
        assert sleepers.observer.held == {"all": 0}
        assert sleepers.observer.queries == {"all": 1}
        presence.of(("a", "b"))
    assert sleepers.counted == (0, {})
    assert sorted(sleepers.observer.changes) == ["+a", "+b", "+c", "-a", "-b", "-c"]


async def test_a_wake_up_between_two_looks_is_not_missed() -> None:
    """Every member wakes in a step of its own, and the queries look at other moments."""
    sleepers = Sleepers()
    held = [await sleepers.hold(sleepers.query(quorum=n % 3 + 1)) for n in range(9)]
    for name in "abc":
        sleepers.wake(name)
        await asyncio.sleep(0)
    results = await asyncio.gather(*held, return_exceptions=True)
    assert not [one for one in results if isinstance(one, SpecFuseError)]
    assert sleepers.counted == (0, {})


async def test_who_is_ready_is_told_in_the_members_order() -> None:
    sleepers = Sleepers()
    sleepers.wake("c", "a")
    assert sleepers.readiness.ready(("a", "b", "c")) == ("a", "c")
    assert sleepers.readiness.awake(("a", "b")) == 1
