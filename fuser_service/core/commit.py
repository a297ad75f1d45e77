"""The end of a round: the winner joins the answer, weights and standing follow, members leave.

Also counted here: the calls that a round avoided. A full round asks a member once to propose and
once to score. A round that members come back for, or object in, asks the others twice to score;
then none of their calls is avoided. Calls that a failure or lateness prevented do not count: they
are no saving.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from fuser_service.core.candidates import candidate_of
from fuser_service.core.contest import tokens_of
from fuser_service.core.exits import Standing, exit_policy
from fuser_service.core.rules import Vote, Weighting
from fuser_service.core.state import QueryState
from fuser_service.core.types import (
    Candidate,
    CommittedRound,
    FinishReason,
    JudgedCandidate,
    MemberName,
    SegmentFinish,
)
from fuser_service.core.verdict import Verdict, winning_draft
from fuser_service.core.watching import keeping_drafts, out_of_patience, watching
from fuser_service.core.weights import learning_rate, rewards

AvoidedBecause = Literal["exit", "watch", "kept", "consensus", "duplicate"]
"""Why a call was not needed.

The member had left; it watched, so it was not asked to propose; it had a draft left that the answer
had gone along with; the round needed no vote (there was a single candidate, or a finished one was
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

    `avoided` are the calls it did not need; `discarded` are the tokens, by member, of drafts that
    lost, and of what was left of one and is of no use to the next round; `recalled` are the members
    that the exit policy had sent away and that came back.
    """

    round: CommittedRound
    avoided: tuple[AvoidedCalls, ...]
    discarded: Mapping[MemberName, int]
    recalled: tuple[MemberName, ...]

    def discarding(self, tokens: Mapping[MemberName, int]) -> Commit:
        """The commit, after which these tokens are of no use either."""
        return replace(self, discarded=Counter(self.discarded) + Counter(tokens))


def committed(
    state: QueryState, verdict: Verdict
) -> tuple[QueryState, Commit, FinishReason | None]:
    """The state after the commit, what to publish, and why the answer ends, if it does."""
    winning = verdict.winning
    draft = verdict.draft
    segment = Candidate(draft.text, draft.finish is SegmentFinish.END)
    scanner, shown = state.scanner.append(segment.text)
    confidence = verdict.confidence
    after = replace(
        state,
        scanner=scanner,
        committed=(*state.committed, segment.text),
        committed_tokens=state.committed_tokens + draft.token_count,
        committed_bytes=state.committed_bytes + len(segment.text.encode()),
        confidences=state.confidences + (() if confidence is None else (confidence,)),
        drafts={},
    )
    reason = finish_reason(after, finished=segment.finished)
    if reason is None:
        after = _after_feedback(after, verdict)
        if state.rules.vote is Vote.WORDS:
            after = keeping_drafts(after, segment)
        after = _after_exits(after, winning.proposers)
    published = CommittedRound(
        number=state.round.number,
        segment=segment.text,
        text=shown,
        winner=winning.proposers[0],
        token_count=draft.token_count,
        candidates=_best_first(state, verdict),
        took_part=tuple(state.round.proposals),
        left=after.departures[state.round.departures_before :],
        recalled=state.round.recalled,
        watched=state.watchers,
        objected=state.in_order(state.round.objected),
    )
    recalled = tuple(m for m in state.round.recalled if m not in state.round.returned)
    return (
        after,
        Commit(published, _avoided(state, verdict), _discarded(state, after, verdict), recalled),
        reason,
    )


def _discarded(before: QueryState, after: QueryState, verdict: Verdict) -> dict[MemberName, int]:
    """The drafted tokens that are of no use any more, by member: neither committed nor kept."""
    discarded = {}
    for member, draft in before.round.proposals.items():
        used = verdict.draft.text if member in verdict.winning.proposers else ""
        kept = after.drafts[member].token_count if member in after.drafts else 0
        discarded[member] = draft.token_count - tokens_of(draft, used) - kept
    return {member: tokens for member, tokens in discarded.items() if tokens > 0}


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
    return replace(state, weights=weights, quality=quality, quality_rounds=state.quality_rounds + 1)


def _after_exits(state: QueryState, winners: tuple[MemberName, ...]) -> QueryState:
    if state.rules.watching:
        state = watching(state, winners)
        return state.exiting(out_of_patience(state))
    policy = exit_policy(state.rules.exit)
    return state.exiting(policy.leaving(Standing(state.quality, state.quality_rounds, winners)))


def _best_first(state: QueryState, verdict: Verdict) -> tuple[JudgedCandidate, ...]:
    judged = [
        JudgedCandidate(
            _shown(state, verdict, index),
            distinct.proposers,
            verdict.fused[index],
            tuple((verifier, given[index]) for verifier, given in verdict.judgements.items()),
        )
        for index, distinct in enumerate(verdict.candidates)
    ]
    return tuple(sorted(judged, key=lambda candidate: -candidate.share))


def _shown(state: QueryState, verdict: Verdict, index: int) -> Candidate:
    """What is committed, and of the others what they would have gone on to say."""
    distinct = verdict.candidates[index]
    draft = verdict.draft if index == verdict.winner else winning_draft(state, distinct)
    return candidate_of(draft) or distinct.candidate


def _avoided(state: QueryState, verdict: Verdict) -> tuple[AvoidedCalls, ...]:
    """The calls that a committed round did not need.

    Of members that had left and did not come back, both; of those that watched or had a draft left,
    the proposal; and of those that were not asked to score, the scores.
    """
    exits = (AvoidedCalls(member, "exit", propose=1, score=1) for member in state.dormant)
    return (*exits, *_proposals_avoided(state), *_scores_avoided(state, verdict))


def _proposals_avoided(state: QueryState) -> Iterator[AvoidedCalls]:
    round_ = state.round
    because: dict[MemberName, AvoidedBecause] = {
        **dict.fromkeys(state.in_order(round_.proposals), "kept"),
        **dict.fromkeys(state.in_order(round_.listening), "watch"),
    }
    for member in state.in_order(because.keys() - round_.asked_to_propose):
        yield AvoidedCalls(member, because[member], propose=1, score=0)


def _scores_avoided(state: QueryState, verdict: Verdict) -> Iterator[AvoidedCalls]:
    because: AvoidedBecause = "duplicate" if verdict.judgements else "consensus"
    round_ = state.round
    for member in state.in_order({*round_.proposals, *round_.listening} - round_.asked_to_score):
        yield AvoidedCalls(member, because, propose=0, score=1)
