"""What members are asked ahead or in relief: no call outlives its query, and each is counted once.

The games are played with erratic members, which answer, fail, are slow or hang as it comes.
"""

from __future__ import annotations

import asyncio
import gc
import random
from collections import Counter
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from typing import Literal

from hypothesis import given
from hypothesis import strategies as st

from fuser_service.core.rules import ExitKind, ExitRules, Rules, Vote
from fuser_service.core.types import (
    Candidate,
    Context,
    Evidence,
    Message,
    Proposal,
    Role,
    Sampling,
    Score,
    SegmentFinish,
)
from fuser_service.fusion.effort import Effort
from fuser_service.fusion.events import Event, Finished, RoundCommitted
from fuser_service.fusion.query import Query, Timings
from fuser_service.fusion.runner import Fusion
from specfuse.deadline import Deadline
from specfuse.errors import (
    ContextTooLong,
    InvalidArgument,
    Overloaded,
    SpecFuseError,
    Unavailable,
)
from tests.support.members import RecordingObserver, ScriptedMember, proposal, score

WORDS = (" one", " two", " three.", " Four")
TROUBLES: tuple[SpecFuseError, ...] = (
    Unavailable("reset"),
    Overloaded("full"),
    InvalidArgument("prompt", "no"),
    ContextTooLong(tokens=9, window=8),
)
seeds = st.integers(0, 2**32)


class Whim(asyncio.Event):
    """An event that comes after some turns of the loop, or never where that may be."""

    def __init__(self, chance: random.Random, *, hangs: float) -> None:
        super().__init__()
        self._chance = chance
        self._hangs = hangs

    async def wait(self) -> Literal[True]:
        try:
            if self._chance.random() < self._hangs:
                return await super().wait()
            await _turns(self._chance.choice((0, 0, 1, 2, 5)))
        except asyncio.CancelledError:
            await _turns(self._chance.choice((0, 0, 3)))
            raise
        return True


async def _turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


@dataclass(slots=True)
class Erratic(ScriptedMember):
    """A member that keeps its drafts."""

    drafted: list[Proposal] = field(default_factory=list)


def erratic(name: str, seed: int, trouble: float, hold: Whim) -> Erratic:
    """A member that answers the same call the same way, whenever it comes."""

    def propose(context: Context) -> Proposal | SpecFuseError:
        chance = random.Random(f"{seed} {name} {context.committed}")
        if chance.random() < trouble:
            return chance.choice(TROUBLES)
        text = "".join(chance.choices(WORDS, k=chance.choice((0, 1, 2, 3))))
        ends = not text or chance.random() < 0.15
        draft = proposal(text, SegmentFinish.END if ends else SegmentFinish.LENGTH)
        member.drafted.append(draft)
        return draft

    def judge(context: Context, candidate: Candidate) -> Score | SpecFuseError:
        chance = random.Random(f"{seed} {name} {context.committed} {candidate}")
        if chance.random() < trouble:
            return chance.choice(TROUBLES)
        given = score(chance.choice((0.2, 0.9)))
        if chance.random() < 0.05:
            return given
        regret = chance.choice((0.0, 0.0, 0.0, 4.0))
        untold = chance.choice((None, 0.0))
        at = chance.choice((0, len(candidate.text) // 2, len(candidate.text)))
        return given._replace(evidence=Evidence(regret, regret, at, 0.1, -0.1, 0, (), untold))

    member = Erratic(name, propose, judge, hold={"propose": hold, "score": hold})
    return member


def query_of(members: tuple[str, ...], **rules: object) -> Query:
    watch = ExitRules(kind=ExitKind.WATCH, patience=2)
    settings = {"max_tokens": 12, "segment_tokens": 2, "vote": Vote.WORDS, "exit": watch, **rules}
    return Query(
        ensemble="all",
        rules=Rules(members=members, **settings),  # type: ignore[arg-type]
        prompt=(Message(Role.USER, "two things, please"),),
        session_id="s1",
        sampling=Sampling(seed=7),
        draft_ahead=True,
    )


@dataclass(slots=True)
class Game:
    """A query over erratic members, and what is left of it."""

    members: dict[str, Erratic]
    query: Query
    deadline: Deadline = field(default_factory=Deadline.never)
    observer: RecordingObserver = field(default_factory=RecordingObserver)
    effort: Effort = field(default_factory=Effort)
    events: list[Event] = field(default_factory=list)
    problem: str = ""

    async def play(self, turns: int = 0) -> None:
        """Takes the query's events, with so many turns of the loop between two."""
        stream = Fusion(self.members, self.observer).run(self.query, self.deadline, self.effort)
        try:
            async with aclosing(stream):
                async for event in stream:
                    self.events.append(event)
                    await _turns(turns)
        except SpecFuseError as error:
            self.problem = f"{error.reason}: {error.message}"

    @property
    def began(self) -> bool:
        """Whether the query came to begin before it was cancelled."""
        return bool(self.events)

    @property
    def rounds(self) -> list[object]:
        return [event.round for event in self.events if isinstance(event, RoundCommitted)]

    def assert_counted(self) -> None:
        """Each call was told of once, and counted once."""
        asked = Counter((m.name, call.rpc) for m in self.members.values() for call in m.asked)
        assert Counter((member, rpc) for member, rpc, _ in self.observer.calls) == asked
        for rpc in ("propose", "score"):
            assert self.effort.made[rpc] == sum(n for (_, of), n in asked.items() if of == rpc)
        assert self.effort.passes == sum(self.observer.passes.values())
        if self.events and isinstance(finished := self.events[-1], Finished):
            assert finished.passes == self.effort.passes
            assert finished.propose_made == self.effort.made["propose"]
            assert finished.discarded_tokens == sum(self.observer.discarded.values())

    def assert_over(self) -> None:
        """Nobody is asked any more."""
        assert [(m.running, m.left) for m in self.members.values()] == [(0, 1)] * len(self.members)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert not +self.observer.sessions


async def _interrupted(seed: int) -> None:
    problems: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: problems.append(told))
    chance = random.Random(seed)
    names = tuple("abcd"[: chance.choice((2, 3, 4))])
    trouble, hangs = chance.choice((0.0, 0.1)), chance.choice((0.0, 0.1, 0.3))
    members = {
        name: erratic(name, seed, trouble, Whim(random.Random(f"{seed}{name}"), hangs=hangs))
        for name in names
    }
    timings = Timings(
        straggler_grace_seconds=chance.choice((0.0, 0.0005, 0.002)),
        round_timeout_seconds=chance.choice((0.0005, 0.002, 0.004)),
    )
    query = query_of(
        names, quorum=chance.choice((1, 1, len(names))), stretch_tokens=chance.choice((0, 8))
    )
    deadline = Deadline.after(chance.choice((0.003, 0.05)))
    game = Game(members, replace(query, timings=timings), deadline)
    playing = asyncio.create_task(game.play(chance.choice((0, 0, 1, 3))))
    for _ in range(chance.choice((0, 1, 2))):
        await _turns(chance.randrange(60))
        playing.cancel()
    with suppress(asyncio.CancelledError):
        await playing
    del playing
    gc.collect()
    if game.began:
        game.assert_over()
    game.assert_counted()
    assert not problems


@given(seeds)
def test_whatever_happens_no_call_outlives_its_query_and_each_counts_once(seed: int) -> None:
    asyncio.run(_interrupted(seed))


@given(seeds)
def test_drafting_ahead_changes_nothing_but_what_is_asked_in_vain(seed: int) -> None:
    chance = random.Random(seed)
    names = tuple("abcd"[: chance.choice((2, 3, 4))])
    rules = {"quorum": chance.choice((1, 1, 2)), "stretch_tokens": chance.choice((0, 8))}
    trouble = chance.choice((0.0, 0.05))

    def played(*, ahead: bool) -> Game:
        whim = Whim(random.Random(seed), hangs=0.0)
        members = {name: erratic(name, seed, trouble, whim) for name in names}
        query = query_of(names, opener=None, **rules)
        timings = Timings(straggler_grace_seconds=1000, round_timeout_seconds=1000)
        game = Game(members, replace(query, draft_ahead=ahead, timings=timings))
        asyncio.run(game.play())
        return game

    plain, ahead = played(ahead=False), played(ahead=True)
    assert (ahead.rounds, ahead.problem) == (plain.rounds, plain.problem)
    ahead.assert_counted()
    for name in names:
        asked = [
            {(c.context.committed, c.max_tokens, c.sampling) for c in of.members[name].asked}
            for of in (plain, ahead)
        ]
        assert asked[0] <= asked[1]
    drafts = [[one for m in of.members.values() for one in m.drafted] for of in (plain, ahead)]
    passes = sum(draft.passes for draft in drafts[1])
    judged = sum(rpc == "score" and how == "ok" for _, rpc, how in ahead.observer.calls)
    assert ahead.effort.passes == passes + judged
    in_vain = ahead.observer.ahead[False]
    assert ahead.effort.made["propose"] == plain.effort.made["propose"] + in_vain
    tokens = [sum(draft.token_count for draft in made) for made in drafts]
    discarded = [sum(of.observer.discarded.values()) for of in (plain, ahead)]
    if not plain.problem:
        assert tokens[1] - tokens[0] == discarded[1] - discarded[0]
