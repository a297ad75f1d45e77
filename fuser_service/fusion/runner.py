"""Carries out what the core decides, step by step, and reports what became of it."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from opentelemetry.trace import Tracer

from fuser_service.core import rounds
from fuser_service.core.commit import Commit
from fuser_service.core.rounds import Transition
from fuser_service.core.state import QueryState
from fuser_service.core.steps import Finish, LoseQuorum, Ok, Propose, Result, Verify
from fuser_service.core.types import MemberName, Proposal
from fuser_service.fusion.asking import Asking
from fuser_service.fusion.effort import Effort
from fuser_service.fusion.events import Event, Finished, RoundCommitted, Started
from fuser_service.fusion.ports import FusionObserver, Member, Phase
from fuser_service.fusion.presence import Presence
from fuser_service.fusion.query import Query
from fuser_service.fusion.spans import QuerySpans
from specfuse.deadline import Deadline
from specfuse.errors import (
    ContextTooLong,
    DeadlineExceeded,
    InvalidArgument,
    QuorumLost,
    SpecFuseError,
    Unavailable,
)
from specfuse.observability.tracing.spans import NO_TRACER

Answers = TypeVar("Answers")

TIMER_SLACK_SECONDS = 0.02
"""A member's timer may run out this much before the deadline that it was set for."""


class Fusion:
    """Runs queries over members. One object serves any number of queries at a time."""

    def __init__(
        self,
        members: Mapping[MemberName, Member],
        observer: FusionObserver,
        clock: Callable[[], float] = time.monotonic,
        tracer: Tracer = NO_TRACER,
    ) -> None:
        self._members = members
        self._observer = observer
        self._clock = clock
        self._tracer = tracer

    def run(
        self,
        query: Query,
        deadline: Deadline,
        effort: Effort | None = None,
        presence: Presence | None = None,
    ) -> AsyncGenerator[Event, None]:
        """Answers the query, an event at a time. `effort` is added to while it does.

        `presence` is that of a query that has waited, and is left at the end.

        Every member of `query.rules.members` must be among the fusion's members. Cancelling the
        task that iterates cancels the calls in flight at once. Between events there are none but
        one that is made ahead, which ends with the iteration.

        Raises:
            QuorumLost: fewer members than the quorum are left; carries what was committed.
            InvalidArgument: so few are left only because they find the request itself wrong.
            DeadlineExceeded: the deadline passed before the answer was complete.
        """
        participants = {
            member: self._members[member].join(query.session_id) for member in query.rules.members
        }
        spans = QuerySpans(self._tracer, query)
        asking = Asking(
            participants,
            self._observer,
            self._clock,
            query,
            deadline,
            spans,
            Effort() if effort is None else effort,
        )
        presence = presence or Presence(self._observer, query.ensemble)
        run = _Run(asking, self._observer, self._clock, query, deadline, spans)
        return run.events(presence)


@asynccontextmanager
async def _attended(asking: Asking) -> AsyncIterator[None]:
    """The participants of a query leave it with the context, when no call is in flight any more."""
    try:
        yield
    finally:
        try:
            await asking.settle_ahead()
        finally:
            for participant in asking.participants.values():
                participant.leave()


@dataclass(slots=True)
class _RoundClock:
    """Times a round: when it began, and the seconds its phases took."""

    number: int
    clock: Callable[[], float]
    began: float
    seconds: dict[Phase, float] = field(default_factory=dict)

    async def timed(self, phase: Phase, asking: Awaitable[Answers]) -> Answers:
        """The answers; what they take is the phase's."""
        began = self.clock()
        answers = await asking
        self.seconds[phase] = self.seconds.get(phase, 0.0) + self.clock() - began
        return answers


@dataclass(slots=True)
class _Run:
    """One query being answered. Whatever becomes of a round is counted here, once."""

    asking: Asking
    observer: FusionObserver
    clock: Callable[[], float]
    query: Query
    deadline: Deadline
    spans: QuerySpans
    current: _RoundClock | None = None
    commits: int = 0
    discarded: int = 0
    contexts: dict[MemberName, int] = field(default_factory=dict)

    @property
    def effort(self) -> Effort:
        """What the query has taken so far."""
        return self.asking.effort

    async def events(self, presence: Presence) -> AsyncGenerator[Event, None]:
        """The query's events. No call is in flight while one is handed over, but one ahead."""
        query = self.query
        began = self.clock()
        transition = rounds.start(query.rules, query.committed_segments, query.committed_tokens)
        with presence, self.spans:
            async with _attended(self.asking):
                presence.of(transition.state.counted_on)
                yield Started(query.ensemble, query.rules.members, query.session_id)
                while not isinstance(step := transition.step, Finish):
                    if isinstance(step, LoseQuorum) or self.deadline.passed:
                        raise self._giving_up(transition.state)
                    clock = self._round_clock(transition.state)
                    transition = await self._perform(transition.state, step, clock)
                    presence.of(transition.state.counted_on)
                    if transition.commit:
                        yield self._committed(transition.commit, clock)
                finished = self._finished(transition.state, step, self.clock() - began)
                self.spans.finished(finished)
                yield finished

    async def _perform(
        self, state: QueryState, step: Propose | Verify, clock: _RoundClock
    ) -> Transition:
        if isinstance(step, Propose):
            proposals = await clock.timed("propose", self.asking.proposals(state, step))
            self._notice_contexts(proposals)
            after = rounds.proposed(state, step, proposals)
        else:
            if self.query.draft_ahead:
                self.asking.draft_ahead(state, step)
            scores = await clock.timed("score", self.asking.scores(state, step))
            after = rounds.scored(state, step, scores)
            for member, tokens in (await self.asking.settle_ahead(after)).items():
                self._discard(member, tokens)
        for departure in after.state.departures[len(state.departures) :]:
            self.observer.member_left(self.query.ensemble, departure)
        return after

    def _notice_contexts(self, proposals: Mapping[MemberName, Result[Proposal]]) -> None:
        if not self.commits:
            answers = ((m, one.value) for m, one in proposals.items() if isinstance(one, Ok))
            self.contexts |= {member: answer.context_tokens for member, answer in answers}

    def _discard(self, member: MemberName, tokens: int) -> None:
        self.observer.tokens_discarded(self.query.ensemble, member, tokens)
        self.discarded += tokens

    def _round_clock(self, state: QueryState) -> _RoundClock:
        number = state.round.number
        if self.current is None or self.current.number != number:
            self.current = _RoundClock(number, self.clock, self.clock())
            self.observer.active_members(self.query.ensemble, len(state.active))
            self.spans.round_began(number, len(state.active))
        return self.current

    def _committed(self, commit: Commit, clock: _RoundClock) -> RoundCommitted:
        """Tells the observer of a committed round; returns what the caller is told."""
        ensemble = self.query.ensemble
        seconds = clock.seconds | {"total": self.clock() - clock.began}
        for phase, duration in seconds.items():
            self.observer.phase_ended(ensemble, phase, duration)
        for avoided in commit.avoided:
            self.effort.avoided["propose"] += avoided.propose
            self.effort.avoided["score"] += avoided.score
            calls = avoided.propose + avoided.score
            self.observer.calls_avoided(avoided.member, avoided.because, calls)
        for member, tokens in commit.discarded.items():
            self._discard(member, tokens)
        self.observer.segment_won(ensemble, commit.round.winner)
        self.observer.members_recalled(ensemble, commit.recalled)
        if not self.commits:
            self.effort.prompt_tokens = self.contexts.get(commit.round.winner, 0)
        self.effort.output_tokens += commit.round.token_count
        self.commits += 1
        self.spans.committed(commit)
        return RoundCommitted(
            commit.round,
            propose_seconds=seconds.get("propose", 0.0),
            score_seconds=seconds.get("score", 0.0),
            total_seconds=seconds["total"],
        )

    def _finished(self, state: QueryState, step: Finish, seconds: float) -> Finished:
        return Finished(
            reason=step.reason,
            text=step.text,
            rounds=self.commits,
            output_tokens=state.committed_tokens - self.query.committed_tokens,
            propose_made=self.effort.made["propose"],
            propose_avoided=self.effort.avoided["propose"],
            score_made=self.effort.made["score"],
            score_avoided=self.effort.avoided["score"],
            lost=state.lost,
            absent=state.absent,
            total_seconds=seconds,
            discarded_tokens=self.discarded,
            prompt_tokens=self.effort.prompt_tokens,
            passes=self.effort.passes,
        )

    def _wrong(self, state: QueryState) -> InvalidArgument | None:
        """What is wrong with the request, if that alone is why members are lost.

        A context that is too long for all who could be asked is too long, whoever else is down.
        """
        if state.round.absent:
            return None
        errors = [self.asking.errors.get(departure.member) for departure in state.lost]
        wrong = [error for error in errors if isinstance(error, InvalidArgument)]
        others = [error for error in errors if not isinstance(error, InvalidArgument)]
        if others and not (
            all(isinstance(error, ContextTooLong) for error in wrong)
            and all(isinstance(error, Unavailable) for error in others)
        ):
            return None
        return next(iter(wrong), None)

    def _giving_up(self, state: QueryState) -> SpecFuseError:
        """Why the query cannot go on, once the deadline passed or too few members are left."""
        if self.deadline.remaining < TIMER_SLACK_SECONDS:
            return DeadlineExceeded(f"the deadline passed after {self.commits} rounds")
        if (wrong := self._wrong(state)) is not None:
            return wrong
        details = {departure.member: departure.detail for departure in state.lost}
        for member in state.round.absent & self.asking.errors.keys():
            error = self.asking.errors[member]
            details.setdefault(member, f"{error.reason}: {error.message}")
        why = "; ".join(f"{member}: {detail}" for member, detail in details.items())
        return QuorumLost(
            f"fewer than {state.rules.quorum} members answered" + (f" ({why})" if why else ""),
            committed_segments=state.committed,
            committed_tokens=state.committed_tokens,
        )
