"""The end of a round: the winner joins the answer, weights and standing follow, members leave.

Also counted here: the calls that a round avoided. A full round asks a member once to propose and
once to score. A round that members come back for asks the others twice to score; then none of their
calls is avoided. Calls that a failure or lateness prevented do not count: they are no saving.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from fuser_service.core.exits import Standing, exit_policy
from fuser_service.core.rules import Weighting
from fuser_service.core.state import QueryState
from fuser_service.core.types import CommittedRound, FinishReason, JudgedCandidate, MemberName
from fuser_service.core.verdict import Verdict
from fuser_service.core.weights import learning_rate, rewards

AvoidedBecause = Literal["exit", "consensus", "duplicate"]
"""Why a call was not needed.

The member had left; the round needed no vote (there was a single candidate, or a finished one was
taken without scoring); or all there was to score had come with the member's own proposal.
"""


@dataclass(frozen=True, slots=True)
class AvoidedCalls:
    """Calls of one member that one round did not need."""

    member: MemberName
    because: AvoidedBecause
    propose: int
    score: int


@dataclass(frozen=True, slots=True)
class Commit:
    """A round as it is reported to the caller, and what it cost.

    `avoided` are the calls it did not need; `discarded` are the tokens, by member, of the proposals
    that lost; `recalled` are the members that the exit policy had sent away and that came back.
    """

    round: CommittedRound
    avoided: tuple[AvoidedCalls, ...]
    discarded: Mapping[MemberName, int]
    recalled: tuple[MemberName, ...]


def committed(
    state: QueryState, verdict: Verdict
) -> tuple[QueryState, Commit, FinishReason | None]:
    """The state after the commit, what to publish, and why the answer ends, if it does."""
    winning = verdict.winning
    proposal = state.round.proposals[winning.proposers[0]]
    scanner, shown = state.scanner.append(winning.candidate.text)
    confidence = verdict.confidence
    after = replace(
        state,
        scanner=scanner,
        committed=(*state.committed, winning.candidate.text),
        committed_tokens=state.committed_tokens + proposal.token_count,
        committed_bytes=state.committed_bytes + len(winning.candidate.text.encode()),
        confidences=state.confidences + (() if confidence is None else (confidence,)),
    )
    reason = finish_reason(after, finished=winning.candidate.finished)
    if reason is None:
        after = _after_exits(_after_feedback(after, verdict), winning.proposers)
    published = CommittedRound(
        number=state.round.number,
        segment=winning.candidate.text,
        text=shown,
        winner=winning.proposers[0],
        token_count=proposal.token_count,
        candidates=_best_first(verdict),
        took_part=tuple(state.round.proposals),
        left=after.departures[state.round.departures_before :],
        recalled=state.round.recalled,
    )
    discarded = {
        member: losing.token_count
        for member, losing in state.round.proposals.items()
        if member not in winning.proposers
    }
    recalled = tuple(m for m in state.round.recalled if m not in state.round.returned)
    return after, Commit(published, _avoided(state, verdict), discarded, recalled), reason


def finish_reason(state: QueryState, *, finished: bool = False) -> FinishReason | None:
    """Why the answer ends here, if it does. Being complete takes precedence over the limits."""
    if state.scanner.stopped or finished:
        return FinishReason.STOP
    return FinishReason.LENGTH if state.is_full else None


def _after_feedback(state: QueryState, verdict: Verdict) -> QueryState:
    """Weights and quality after the round.

    A member that sat the round out cannot be judged: it keeps its weight and is credited the mean
    of what the others gained, so that only the straggler rule punishes lateness.
    """
    rules = state.rules
    weights = state.weights
    if rules.weighting is Weighting.HEDGE:
        rate = learning_rate(rules.eta, len(rules.members), state.round.number)
        weights = weights.rewarded(rewards(verdict.candidates, verdict.judgements), rate)
    gained = {m: verdict.share_of(m) for m in state.active if m in state.round.proposals}
    mean = math.fsum(gained.values()) / len(gained) if gained else 0.0
    quality = {m: quality + gained.get(m, mean) for m, quality in state.quality.items()}
    return replace(state, weights=weights, quality=quality, evidence=state.evidence + 1)


def _after_exits(state: QueryState, winners: tuple[MemberName, ...]) -> QueryState:
    policy = exit_policy(state.rules.exit)
    return state.exiting(policy.leaving(Standing(state.quality, state.evidence, winners)))


def _best_first(verdict: Verdict) -> tuple[JudgedCandidate, ...]:
    judged = [
        JudgedCandidate(
            distinct.candidate,
            distinct.proposers,
            verdict.fused[index],
            tuple((verifier, given[index]) for verifier, given in verdict.judgements.items()),
        )
        for index, distinct in enumerate(verdict.candidates)
    ]
    return tuple(sorted(judged, key=lambda candidate: -candidate.share))


def _avoided(state: QueryState, verdict: Verdict) -> tuple[AvoidedCalls, ...]:
    return avoided_calls(
        dormant=state.dormant,
        proposed=tuple(state.round.proposals),
        asked_to_score=state.round.asked_to_score,
        voted=bool(verdict.judgements),
    )


def avoided_calls(
    *,
    dormant: Collection[MemberName],
    proposed: Collection[MemberName],
    asked_to_score: Collection[MemberName],
    voted: bool,
) -> tuple[AvoidedCalls, ...]:
    """The calls that a committed round did not need.

    `dormant` had left and did not come back, `proposed` answered when asked to propose, `voted`
    says whether the winner was found by scores.
    """
    exits = (AvoidedCalls(member, "exit", propose=1, score=1) for member in dormant)
    because: AvoidedBecause = "duplicate" if voted else "consensus"
    unasked = (
        AvoidedCalls(member, because, propose=0, score=1)
        for member in proposed
        if member not in asked_to_score
    )
    return (*exits, *unasked)
