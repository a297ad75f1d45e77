"""Asks members for what a step needs of them: concurrently, in time, and each of them once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from fuser_service.core import rounds, steps
from fuser_service.core.rounds import Transition
from fuser_service.core.state import QueryState
from fuser_service.core.steps import Ok, Propose, Result, Verify
from fuser_service.core.types import Context, MemberName, Proposal, Sampling, Score
from fuser_service.fusion.ahead import Ahead
from fuser_service.fusion.effort import Effort
from fuser_service.fusion.gather import Gathering, Patience, Relief, meaning_of
from fuser_service.fusion.ports import FusionObserver, Outcome, Participant, Rpc
from fuser_service.fusion.query import Query
from fuser_service.fusion.spans import QuerySpans
from specfuse.deadline import Deadline
from specfuse.errors import SpecFuseError

Answer = TypeVar("Answer")
Calls = Mapping[MemberName, Callable[[], Awaitable[Answer]]]

SEED_STRIDE = 0x9E3779B97F4A7C15
"""Step between rounds' seeds: odd and large, so that queries with adjacent seeds share none."""


@dataclass(slots=True)
class Asking:
    """The calls of one query. Whatever they take is counted here, once.

    `errors` are those that members' latest calls ended with.
    """

    participants: Mapping[MemberName, Participant]
    observer: FusionObserver
    clock: Callable[[], float]
    query: Query
    deadline: Deadline
    spans: QuerySpans
    effort: Effort
    errors: dict[MemberName, SpecFuseError] = field(default_factory=dict)
    _slowest: dict[tuple[Rpc, MemberName], float] = field(default_factory=dict)
    _ahead: Ahead | None = None

    async def proposals(
        self, state: QueryState, step: Propose
    ) -> dict[MemberName, Result[Proposal]]:
        """What the step's members propose, and those that relieved them if they were overdue."""
        patience, relief = self._patience("propose", step.members, step), None
        if step.relief:
            patience = replace(patience, deadline=self._until_timeout())
            relief = self._relief(state, step, step.relief)
        calls = self._drafting(state, step.members, step.max_tokens, patience.deadline)
        if self._ahead:
            calls[self._ahead.member] = self._ahead.proposal
        try:
            proposals = await self._gather("propose", calls, patience, relief)
        finally:
            await self._settle_served()
        for member, one in proposals.items():
            if isinstance(one, Ok):
                self._passed(member, one.value.passes)
        return proposals

    async def scores(
        self, state: QueryState, step: Verify
    ) -> dict[MemberName, Result[tuple[Score, ...]]]:
        """What the step's members make of its candidates."""
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
        scores = await self._gather("score", calls, patience)
        for member, result in scores.items():
            if isinstance(result, Ok):
                self._passed(member, 1)
        return scores

    def draft_ahead(self, state: QueryState, step: Verify) -> None:
        """Asks for what comes after the draft that is about to be judged, as if it were committed.

        Only one member is asked, and none that has to judge.
        """
        following = rounds.if_all_agree(state)
        if following is None or not isinstance(following.step, Propose):
            return
        after, asked = following.state, following.step
        if len(asked.members) > 1 or asked.members[0] in step.assignments:
            return
        calls = self._drafting(after, asked.members, asked.max_tokens, self._until_timeout())
        call = partial(self._apart, asked.members, calls)
        self._ahead = Ahead(asked, after.committed, call, self.clock)

    async def settle_ahead(self, transition: Transition | None = None) -> dict[MemberName, int]:
        """Gives up what was drafted ahead unless that is what has to be asked next.

        Returns the tokens that are discarded with it, as far as they are known.
        """
        ahead = self._ahead
        if ahead is None or (transition and ahead.serves(transition)):
            return {}
        try:
            await ahead.stop()
        finally:
            self._ahead = None
            discarded = self._given_up(ahead)
        return discarded

    async def _settle_served(self) -> None:
        """A draft made ahead is used, unless the step ended before it came to wait for it."""
        if self._ahead and self._ahead.taken:
            self.observer.drafted_ahead(self.query.ensemble, used=True)
            self._ahead = None
        await self.settle_ahead()

    def _given_up(self, ahead: Ahead) -> dict[MemberName, int]:
        """Counts a call that was made ahead in vain. Returns the tokens that it drafted."""
        ended = ahead.ended_with
        outcome: Outcome = "ok" if isinstance(ended, Proposal) else "cancelled"
        if isinstance(ended, SpecFuseError):
            _, outcome = meaning_of(ended)
        self.effort.made["propose"] += 1
        self.observer.drafted_ahead(self.query.ensemble, used=False)
        self.observer.call_ended(ahead.member, "propose", outcome, ahead.seconds)
        if not isinstance(ended, Proposal):
            return {}
        self._passed(ahead.member, ended.passes)
        return {ahead.member: ended.token_count}

    async def _apart(self, members: tuple[MemberName, ...], calls: Calls[Proposal]) -> Proposal:
        """A call beside the phase that is under way, in a span of its own."""
        with self.spans.phase("propose", members):
            return await calls[members[0]]()

    def _relief(self, state: QueryState, step: Propose, others: steps.Relief) -> Relief[Proposal]:
        """The others' calls. They have as much time as those that they relieve had in theirs."""
        overdue = self._overdue_seconds(step)
        deadline = self.deadline.within(overdue + self.query.timings.round_timeout_seconds)
        calls = self._drafting(state, others.members, step.max_tokens, deadline)
        return Relief(calls, overdue, others.required, deadline)

    def _drafting(
        self,
        state: QueryState,
        members: Collection[MemberName],
        max_tokens: int,
        deadline: Deadline,
    ) -> dict[MemberName, Callable[[], Awaitable[Proposal]]]:
        context, sampling = self._context(state), self._sampling(state)
        return {
            member: partial(
                self.participants[member].propose,
                context,
                max_tokens=max_tokens,
                sampling=sampling,
                stop=self.query.rules.stop,
                deadline=deadline,
            )
            for member in members
        }

    def _passed(self, member: MemberName, passes: int) -> None:
        self.effort.passes += passes
        self.observer.passes_made(self.query.ensemble, member, passes)

    async def _gather(
        self,
        rpc: Rpc,
        calls: Calls[Answer],
        patience: Patience,
        relief: Relief[Answer] | None = None,
    ) -> dict[MemberName, Result[Answer]]:
        ahead = self._ahead

        def ended(member: MemberName, outcome: Outcome, seconds: float) -> None:
            if ahead and rpc == "propose":
                seconds = ahead.seconds if member == ahead.member else seconds
            self.observer.call_ended(member, rpc, outcome, seconds)
            if outcome == "ok":
                self._slowest[rpc, member] = max(seconds, self._slowest.get((rpc, member), 0.0))
            else:
                self.spans.missed(member, outcome)

        gathering = Gathering(calls, ended, self.clock, relief)
        try:
            with self.spans.phase(rpc, calls):
                results = await gathering.run(patience)
        finally:
            self.effort.made[rpc] += gathering.calls_made
        # Only a member's latest call counts: asking it again drops its earlier error.
        self.errors = {m: error for m, error in self.errors.items() if m not in results}
        self.errors |= gathering.errors
        if gathering.straggled_seconds is not None:
            seconds = gathering.straggled_seconds
            self.observer.straggler_waited(self.query.ensemble, seconds)
        return results

    def _patience(
        self, rpc: Rpc, asked: Collection[MemberName], step: Propose | Verify
    ) -> Patience:
        """How long a step that begins now is waited for.

        How long a member usually takes is known once it has answered; others say nothing of it.
        """
        grace = self.query.timings.straggler_grace_seconds
        limit = self.query.timings.round_timeout_seconds
        if step.standing_by and all((rpc, member) in self._slowest for member in asked):
            limit = min(limit, max(self._slowest[rpc, member] for member in asked) + grace)
        return Patience(step.required, grace, self.deadline.within(limit))

    def _overdue_seconds(self, step: Propose) -> float:
        """From when on those asked are overdue: as a late one is, past all they took before."""
        known = (self._slowest.get(("propose", member), 0.0) for member in step.members)
        return max(known) + self.query.timings.straggler_grace_seconds

    def _until_timeout(self) -> Deadline:
        return self.deadline.within(self.query.timings.round_timeout_seconds)

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
