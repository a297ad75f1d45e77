"""Carries out what the core decides: asks members concurrently and in time, and reports."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from opentelemetry.trace import Tracer

from fuser_service.core import rounds
from fuser_service.core.commit import Commit
from fuser_service.core.rounds import Transition
from fuser_service.core.state import QueryState
from fuser_service.core.steps import Finish, LoseQuorum, Ok, Propose, Result, Verify
from fuser_service.core.types import Context, MemberName, Proposal, Sampling, Score
from fuser_service.fusion.effort import Effort
from fuser_service.fusion.events import Event, Finished, RoundCommitted, Started
from fuser_service.fusion.gather import Gathering, Patience
from fuser_service.fusion.ports import (
    FusionObserver,
    Member,
    Outcome,
    Participant,
    Phase,
    Rpc,
)
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

Answer = TypeVar("Answer")

SEED_STRIDE = 0x9E3779B97F4A7C15
"""Step between rounds' seeds: odd and large, so that queries with adjacent seeds share none."""

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
        self, query: Query, deadline: Deadline, effort: Effort | None = None
    ) -> AsyncGenerator[Event, None]:
        """Answers the query, an event at a time. `effort` is added to while it does.

        Every member of `query.rules.members` must be among the fusion's members. Cancelling the
        task that iterates cancels the calls in flight at once; between events there are none.

        Raises:
            QuorumLost: fewer members than the quorum are left; carries what was committed.
            InvalidArgument: so few are left only because they find the request itself wrong.
            DeadlineExceeded: the deadline passed before the answer was complete.
        """
        participants = {
            member: self._members[member].join(query.session_id) for member in query.rules.members
        }
        spans = QuerySpans(self._tracer, query)
        run = _Run(participants, self._observer, self._clock, query, deadline, spans)
        if effort is not None:
            run.effort = effort
        return run.events()


@contextmanager
def _attended(participants: Collection[Participant]) -> Iterator[None]:
    """The participants of a query leave it with the context."""
    try:
        yield
    finally:
        for participant in participants:
            participant.leave()


@dataclass(slots=True)
class _RoundClock:
    """Times a round: when it began, and the seconds its phases took."""

    number: int
    began: float
    seconds: dict[Phase, float] = field(default_factory=dict)


@dataclass(slots=True)
class _Run:
    """One query being answered. Whatever is counted is counted here, once."""

    participants: Mapping[MemberName, Participant]
    observer: FusionObserver
    clock: Callable[[], float]
    query: Query
    deadline: Deadline
    spans: QuerySpans
    current: _RoundClock | None = None
    commits: int = 0
    discarded: int = 0
    effort: Effort = field(default_factory=Effort)
    contexts: dict[MemberName, int] = field(default_factory=dict)
    slowest: dict[tuple[Rpc, MemberName], float] = field(default_factory=dict)
    errors: dict[MemberName, SpecFuseError] = field(default_factory=dict)

    async def events(self) -> AsyncGenerator[Event, None]:
        """The query's events. No call is in flight while one is handed over."""
        query = self.query
        began = self.clock()
        transition = rounds.start(query.rules, query.committed_segments, query.committed_tokens)
        with (
            Presence(self.observer, query.ensemble) as presence,
            self.spans,
            _attended(self.participants.values()),
        ):
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
            proposals = await self._proposals(state, step, clock)
            after = rounds.proposed(state, step, proposals)
        else:
            scores = await self._scores(state, step, clock)
            after = rounds.scored(state, step, scores)
        for departure in after.state.departures[len(state.departures) :]:
            self.observer.member_left(self.query.ensemble, departure)
        return after

    async def _proposals(
        self, state: QueryState, step: Propose, clock: _RoundClock
    ) -> dict[MemberName, Result[Proposal]]:
        patience = self._patience("propose", step.members, step)
        context, sampling = self._context(state), self._sampling(state)
        calls = {
            member: partial(
                self.participants[member].propose,
                context,
                max_tokens=step.max_tokens,
                sampling=sampling,
                stop=self.query.rules.stop,
                deadline=patience.deadline,
            )
            for member in step.members
        }
        proposals = await self._gather("propose", calls, patience, clock)
        for member, one in proposals.items():
            if isinstance(one, Ok):
                self._passed(member, one.value.passes)
        if not self.commits:
            answers = ((m, one.value) for m, one in proposals.items() if isinstance(one, Ok))
            self.contexts |= {member: answer.context_tokens for member, answer in answers}
        return proposals

    async def _scores(
        self, state: QueryState, step: Verify, clock: _RoundClock
    ) -> dict[MemberName, Result[tuple[Score, ...]]]:
        patience = self._patience("score", step.assignments, step)
        context = self._context(state)
        calls = {
            member: partial(
                self.participants[member].score,
                context,
                candidates,
                deadline=patience.deadline,
            )
            for member, candidates in step.assignments.items()
        }
        scores = await self._gather("score", calls, patience, clock)
        for member, result in scores.items():
            if isinstance(result, Ok):
                self._passed(member, 1)
        return scores

    def _passed(self, member: MemberName, passes: int) -> None:
        self.effort.passes += passes
        self.observer.passes_made(self.query.ensemble, member, passes)

    async def _gather(
        self,
        rpc: Rpc,
        calls: Mapping[MemberName, Callable[[], Awaitable[Answer]]],
        patience: Patience,
        clock: _RoundClock,
    ) -> dict[MemberName, Result[Answer]]:
        def ended(member: MemberName, outcome: Outcome, seconds: float) -> None:
            self.observer.call_ended(member, rpc, outcome, seconds)
            if outcome == "ok":
                self.slowest[rpc, member] = max(seconds, self.slowest.get((rpc, member), 0.0))
            else:
                self.spans.missed(member, outcome)

        began = self.clock()
        self.effort.made[rpc] += len(calls)
        gathering = Gathering(calls, ended, self.clock)
        with self.spans.phase(rpc, calls):
            results = await gathering.run(patience)
        # Only a member's latest call counts: asking it again drops its earlier error.
        self.errors = {m: error for m, error in self.errors.items() if m not in calls}
        self.errors |= gathering.errors
        if gathering.straggled_seconds is not None:
            seconds = gathering.straggled_seconds
            self.observer.straggler_waited(self.query.ensemble, seconds)
        clock.seconds[rpc] = clock.seconds.get(rpc, 0.0) + self.clock() - began
        return results

    def _patience(
        self, rpc: Rpc, asked: Collection[MemberName], step: Propose | Verify
    ) -> Patience:
        """How long a step that begins now is waited for.

        How long a member usually takes is known once it has answered; others say nothing of it.
        """
        grace = self.query.timings.straggler_grace_seconds
        limit = self.query.timings.round_timeout_seconds
        if step.standing_by and all((rpc, member) in self.slowest for member in asked):
            limit = min(limit, max(self.slowest[rpc, member] for member in asked) + grace)
        return Patience(step.required, grace, self.deadline.within(limit))

    def _context(self, state: QueryState) -> Context:
        return Context(self.query.prompt, state.committed, self.query.session_id)

    def _sampling(self, state: QueryState) -> Sampling:
        """The query's sampling, with a seed of the round's own.

        Every call is complete in itself, so the same seed would make the same draws for every
        segment. The round's seed follows from the committed segments: a resumed answer goes on as
        it would have.
        """
        sampling = self.query.sampling
        seed = sampling.seed + SEED_STRIDE * len(state.committed)
        return replace(sampling, seed=seed % 2**64)

    def _round_clock(self, state: QueryState) -> _RoundClock:
        number = state.round.number
        if self.current is None or self.current.number != number:
            self.current = _RoundClock(number, self.clock())
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
            self.observer.tokens_discarded(ensemble, member, tokens)
            self.discarded += tokens
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
        errors = [self.errors.get(departure.member) for departure in state.lost]
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
        for member in state.round.absent & self.errors.keys():
            error = self.errors[member]
            details.setdefault(member, f"{error.reason}: {error.message}")
        why = "; ".join(f"{member}: {detail}" for member, detail in details.items())
        return QuorumLost(
            f"fewer than {state.rules.quorum} members answered" + (f" ({why})" if why else ""),
            committed_segments=state.committed,
            committed_tokens=state.committed_tokens,
        )
