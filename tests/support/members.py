"""Members and observers of an ensemble, scripted: what they say and think is given by the test."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from fuser_service.core.types import (
    Candidate,
    Context,
    Departure,
    MemberName,
    Proposal,
    Sampling,
    Score,
    SegmentFinish,
)
from fuser_service.fusion.ports import AvoidedBecause, Outcome, Phase, Rpc
from specfuse.deadline import Deadline
from specfuse.errors import SpecFuseError

Answer = TypeVar("Answer")

LENGTH, END, STOP = SegmentFinish.LENGTH, SegmentFinish.END, SegmentFinish.STOP


def score(probability: float, *, tokens: int = 1, size: int = 1) -> Score:
    """The score of `tokens` tokens that are all this probable, in a text of `size` bytes."""
    log = math.log(probability) if probability > 0 else -math.inf
    return Score(log * tokens, probability, tokens, size)


def proposal(
    text: str,
    finish: SegmentFinish = LENGTH,
    *,
    tokens: int | None = None,
    own: float | None = None,
) -> Proposal:
    """A proposal of as many tokens as words (unless said); `own` is its own_score's probability."""
    count = len(text.split()) or len(text[:1]) if tokens is None else tokens
    return Proposal(text, finish, count, None if own is None else score(own))


def says(*segments: str, end: bool = True) -> Callable[[Context], Proposal]:
    """Proposes these segments one after the other, by how many are committed; then ends."""

    def propose(context: Context) -> Proposal:
        number = len(context.committed)
        if number >= len(segments):
            return proposal("", END if end else LENGTH)
        last = end and number == len(segments) - 1
        return proposal(segments[number], END if last else LENGTH)

    return propose


def likes(*words: str, liked: float = 0.9, other: float = 0.1) -> Callable[..., Score]:
    """Finds candidates that contain any of the words probable, and all others improbable."""

    def judge(context: Context, candidate: Candidate) -> Score:
        return score(liked if any(word in candidate.text for word in words) else other)

    return judge


@dataclass(frozen=True, slots=True)
class Asked:
    """A call a scripted member got."""

    rpc: Rpc
    context: Context
    deadline: Deadline
    max_tokens: int = 0
    sampling: Sampling | None = None
    stop: tuple[str, ...] = ()
    candidates: tuple[Candidate, ...] = ()


@dataclass(slots=True)
class ScriptedMember:
    """A member whose answers are functions of the call; a function may return or raise an error.

    While an event is in `hold` under an rpc, its calls wait for it, after putting the rpc's name
    into `waiting`. `asked` are the calls so far, `running` is how many are in flight, `cancelled`
    how many were cancelled, `left` how many queries were over.
    """

    name: MemberName
    proposes: Callable[[Context], Proposal | SpecFuseError]
    judges: Callable[[Context, Candidate], Score | SpecFuseError] = field(default_factory=likes)
    ready: bool = True
    awake: bool = True
    told: list[Callable[[], None]] = field(default_factory=list)
    hold: dict[Rpc, asyncio.Event] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    running: int = 0
    cancelled: int = 0
    left: int = 0
    waiting: asyncio.Queue[Rpc] = field(default_factory=asyncio.Queue)

    def when_changed(self, told: Callable[[], None]) -> None:
        self.told.append(told)

    def wakes(self, *, awake: bool = True) -> None:
        """Its replicas are there, or gone, from now on."""
        self.ready = self.awake = awake
        for told in self.told:
            told()

    def join(self, session_id: str) -> ScriptedMember:
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
        await self._enter(Asked("propose", context, deadline, max_tokens, sampling, tuple(stop)))
        return _or_raise(self.proposes(context))

    async def score(
        self, context: Context, candidates: Sequence[Candidate], *, deadline: Deadline
    ) -> tuple[Score, ...]:
        await self._enter(Asked("score", context, deadline, candidates=tuple(candidates)))
        return tuple(_or_raise(self.judges(context, candidate)) for candidate in candidates)

    def leave(self) -> None:
        assert not self.running
        self.left += 1

    async def _enter(self, asked: Asked) -> None:
        self.asked.append(asked)
        self.running += 1
        try:
            if asked.rpc in self.hold:
                self.waiting.put_nowait(asked.rpc)
                await self.hold[asked.rpc].wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1


@dataclass(slots=True)
class RecordingObserver:
    """Keeps everything it is told."""

    calls: list[tuple[MemberName, Rpc, Outcome]] = field(default_factory=list)
    avoided: Counter[tuple[MemberName, AvoidedBecause]] = field(default_factory=Counter)
    phases: list[tuple[str, Phase]] = field(default_factory=list)
    straggled: list[float] = field(default_factory=list)
    won: list[MemberName] = field(default_factory=list)
    discarded: Counter[MemberName] = field(default_factory=Counter)
    passes: Counter[MemberName] = field(default_factory=Counter)
    ahead: Counter[bool] = field(default_factory=Counter)
    left: list[Departure] = field(default_factory=list)
    recalled: Counter[MemberName] = field(default_factory=Counter)
    active: list[int] = field(default_factory=list)
    sessions: Counter[MemberName] = field(default_factory=Counter)
    changes: list[str] = field(default_factory=list)
    held: Counter[str] = field(default_factory=Counter)
    queries: Counter[str] = field(default_factory=Counter)

    def call_ended(self, member: MemberName, rpc: Rpc, outcome: Outcome, seconds: float) -> None:
        assert seconds >= 0
        self.calls.append((member, rpc, outcome))

    def calls_avoided(self, member: MemberName, because: AvoidedBecause, calls: int) -> None:
        self.avoided[member, because] += calls

    def phase_ended(self, ensemble: str, phase: Phase, seconds: float) -> None:
        assert seconds >= 0
        self.phases.append((ensemble, phase))

    def straggler_waited(self, ensemble: str, seconds: float) -> None:
        self.straggled.append(seconds)

    def segment_won(self, ensemble: str, member: MemberName) -> None:
        self.won.append(member)

    def passes_made(self, ensemble: str, member: MemberName, passes: int) -> None:
        self.passes[member] += passes

    def tokens_discarded(self, ensemble: str, member: MemberName, tokens: int) -> None:
        self.discarded[member] += tokens

    def drafted_ahead(self, ensemble: str, *, used: bool) -> None:
        self.ahead[used] += 1

    def query_began(self, ensemble: str) -> None:
        self.queries[ensemble] += 1

    def query_ended(self, ensemble: str) -> None:
        assert self.queries[ensemble] > 0
        self.queries[ensemble] -= 1

    def hold_began(self, ensemble: str) -> None:
        self.held[ensemble] += 1

    def hold_ended(self, ensemble: str) -> None:
        assert self.held[ensemble] > 0
        self.held[ensemble] -= 1

    def session_began(self, member: MemberName) -> None:
        self.sessions[member] += 1
        self.changes.append(f"+{member}")

    def session_ended(self, member: MemberName) -> None:
        assert self.sessions[member] > 0
        self.sessions[member] -= 1
        self.changes.append(f"-{member}")

    def member_left(self, ensemble: str, departure: Departure) -> None:
        self.left.append(departure)

    def members_recalled(self, ensemble: str, members: Collection[MemberName]) -> None:
        self.recalled.update(members)

    def active_members(self, ensemble: str, members: int) -> None:
        self.active.append(members)


def _or_raise(value: Answer | SpecFuseError) -> Answer:
    if isinstance(value, SpecFuseError):
        raise value
    return value
