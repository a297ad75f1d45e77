"""Whom queries count on: as scalers read it, and back at 0 whatever becomes of the queries."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from itertools import cycle

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from fuser_service.core.rules import ExitKind, ExitRules, Rules, Vote
from fuser_service.core.types import Candidate, Context, Message, Proposal, Role, Sampling, Score
from fuser_service.fusion.presence import Presence
from fuser_service.fusion.query import Query, Timings
from fuser_service.fusion.runner import Fusion
from fuser_service.metrics import FuserMetrics
from specfuse.deadline import Deadline
from specfuse.errors import (
    Internal,
    InvalidArgument,
    ModelFailure,
    Overloaded,
    SpecFuseError,
    Unavailable,
)
from tests.support.members import RecordingObserver, ScriptedMember, likes, proposal, says, score

PROMPT = (Message(Role.USER, "?"),)
STAY = ExitRules(kind=ExitKind.NONE)
LEAVE = ExitRules(kind=ExitKind.ENTROPY_SOFTMAX, recall=False)
RECALL = replace(LEAVE, recall=True)
WATCH = ExitRules(kind=ExitKind.WATCH)


async def changes(*members: ScriptedMember, **rules: object) -> list[str]:
    """Who joined and left, in order, while a query was answered."""
    observer = RecordingObserver()
    names = tuple(member.name for member in members)
    fusion = Fusion({member.name: member for member in members}, observer)
    settings = {"max_tokens": 50, "exit": STAY, **rules}
    query = Query("all", Rules(members=names, **settings), PROMPT, "s")  # type: ignore[arg-type]
    with suppress(SpecFuseError):
        async for _ in fusion.run(query, Deadline.after(30)):
            pass
    assert not +observer.sessions
    assert not +observer.queries
    return observer.changes


def test_a_query_is_one_from_when_it_first_counts_on_members_until_it_is_left() -> None:
    observer = RecordingObserver()
    with Presence(observer, "all") as presence:
        assert observer.queries == {}
        presence.of(("a", "b"))
        presence.of(("b", "c"))
        assert (observer.queries, +observer.sessions) == ({"all": 1}, {"b": 1, "c": 1})
        with presence:
            presence.of(("c",))
        assert not +observer.queries
    assert (+observer.queries, +observer.sessions) == ({}, {})
    assert len(observer.changes) == 6


def test_a_query_that_never_counts_on_anybody_is_none() -> None:
    observer = RecordingObserver()
    with Presence(observer, "all"):
        pass
    assert observer.queries == {}


async def test_a_member_that_leaves_early_is_counted_out() -> None:
    a = ScriptedMember("a", says(" one", " two", " three"), likes(" one", " two", " three"))
    b = ScriptedMember("b", says(" eins", " zwei", " drei"), likes(" one", " two", " three"))
    told = await changes(a, b, vote=Vote.SEGMENTS, exit=LEAVE)
    assert sorted(told[:2]) == ["+a", "+b"]
    assert told[2:] == ["-b", "-a"]


async def test_a_member_that_is_called_back_is_counted_in_again() -> None:
    sure = likes(" one", " two", liked=0.9, other=0.2)
    a = ScriptedMember("a", says(" one", " zwei"), sure)
    b = ScriptedMember("b", says(" eins", " two"), sure)
    told = await changes(a, b, vote=Vote.SEGMENTS, exit=RECALL)
    assert told[2:4] == ["-b", "+b"]
    assert sorted(told[4:]) == ["-a", "-b"]


async def test_a_member_that_is_lost_for_good_is_counted_out() -> None:
    a = ScriptedMember("a", says(" one", " two"))
    b = ScriptedMember("b", lambda _: InvalidArgument("prompt", "has no template"))
    assert (await changes(a, b))[2:] == ["-b", "-a"]


async def test_a_member_that_cannot_be_reached_is_counted_on_as_nothing_else_would_wake_it() -> (
    None
):
    a = ScriptedMember("a", says(" one", " two", " three"))
    b = ScriptedMember("b", lambda _: Unavailable("no replica"))
    c = ScriptedMember("c", says(" eins", " zwei", " drei"))
    told = await changes(a, b, c)
    assert [len(member.asked) for member in (a, b)] == [6, 2], "it sits rounds and votes out"
    assert sorted(told[3:]) == ["-a", "-b", "-c"]


MOODS = ("writes", "ends", "gone", "refuses", "full", "broken", "hangs")
MEMBERS = ("a", "b", "c")


@dataclass
class Moody:
    """A member of which nobody knows what it does next, but that a query that asks it counts on it.

    Calls that hang are told of.
    """

    name: str
    moods: Iterator[str]
    registry: CollectorRegistry
    hanging: asyncio.Event
    ready: bool = True

    def join(self, session_id: str) -> Moody:
        return self

    async def propose(
        self,
        context: Context,
        *,
        max_tokens: int,
        sampling: Sampling,
        stop: Sequence[str],
        deadline: Deadline,
    ) -> Proposal:
        mood = await self._mood()
        text = f" {self.name}{len(context.committed)}"
        return proposal("" if mood == "ends" else text, own=None)

    async def score(
        self, context: Context, candidates: Sequence[Candidate], *, deadline: Deadline
    ) -> tuple[Score, ...]:
        await self._mood()
        return tuple(score(0.9 if self.name in one.text else 0.2) for one in candidates)

    def leave(self) -> None:
        pass

    async def _mood(self) -> str:
        assert sessions(self.registry)[self.name] > 0
        mood = next(self.moods)
        errors = {
            "gone": Unavailable("gone"),
            "refuses": InvalidArgument("x", "is wrong"),
            "full": Overloaded("full"),
            "broken": ModelFailure("NaN"),
        }
        if mood == "hangs":
            self.hanging.set()
            await asyncio.Event().wait()
        if mood in errors:
            raise errors[mood]
        return mood


def sessions(registry: CollectorRegistry) -> dict[str, float]:
    """What a scaler is told of each member, and of the ensemble."""
    said = {
        member: registry.get_sample_value("specfuse_member_sessions", {"model_name": member})
        for member in MEMBERS
    }
    said["all"] = registry.get_sample_value("specfuse_ensemble_sessions", {"ensemble": "all"})
    return {name: value for name, value in said.items() if value is not None}


@dataclass(frozen=True)
class Fate:
    """What becomes of a query: it is read to its end, or left after so many events or when a call
    hangs, or its time is up."""

    kind: str
    events: int
    quorum: int
    exit: ExitRules


FATES = st.builds(
    Fate,
    kind=st.sampled_from(["read", "closed", "cancelled", "late"]),
    events=st.integers(0, 4),
    quorum=st.integers(1, 3),
    exit=st.sampled_from(
        [STAY, RECALL, replace(LEAVE, alpha=1.0), WATCH, replace(WATCH, patience=1)]
    ),
)


async def lives(fusion: Fusion, fate: Fate, hanging: asyncio.Event) -> None:
    rules = Rules(members=MEMBERS, max_tokens=6, quorum=fate.quorum, exit=fate.exit)
    timings = Timings(straggler_grace_seconds=0.0, round_timeout_seconds=0.02)
    query = Query("all", rules, PROMPT, "s", timings=timings)
    deadline = Deadline.after(0.01 if fate.kind == "late" else 30.0)

    async def read(most: int | None) -> None:
        seen = 0
        async with aclosing(fusion.run(query, deadline)) as events:
            while seen != most:
                await anext(events)
                seen += 1

    reading = asyncio.create_task(read(fate.events if fate.kind == "closed" else None))
    if fate.kind == "cancelled":
        hangs = asyncio.create_task(hanging.wait())
        await asyncio.wait({reading, hangs}, return_when=asyncio.FIRST_COMPLETED)
        hangs.cancel()
        reading.cancel()
    await asyncio.wait({reading})
    if not reading.cancelled() and (error := reading.exception()) is not None:
        assert isinstance(error, SpecFuseError | StopAsyncIteration), error
        assert not isinstance(error, Internal)


@settings(max_examples=60, deadline=None)
@given(
    moods=st.fixed_dictionaries(
        {member: st.lists(st.sampled_from(MOODS), min_size=1, max_size=12) for member in MEMBERS}
    ),
    fates=st.lists(FATES, min_size=1, max_size=5),
)
def test_after_any_history_of_queries_nobody_is_counted_on(
    moods: dict[str, list[str]], fates: list[Fate]
) -> None:
    async def history() -> None:
        registry = CollectorRegistry()
        metrics = FuserMetrics(registry, members=MEMBERS, ensembles={"all": MEMBERS}, teams=[])
        nobody = dict.fromkeys((*MEMBERS, "all"), 0.0)
        assert sessions(registry) == nobody
        hanging = asyncio.Event()
        members = {m: Moody(m, cycle(moods[m]), registry, hanging) for m in MEMBERS}
        fusion = Fusion(members, metrics)
        await asyncio.gather(*(lives(fusion, fate, hanging) for fate in fates))
        assert sessions(registry) == nobody

    asyncio.run(history())
