"""The verdict of a round: what each verifier made of the candidates, and which one wins."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from fuser_service.core.candidates import DistinctCandidate, candidate_of
from fuser_service.core.contest import common_head, head
from fuser_service.core.exits import confidence as best_confidence
from fuser_service.core.prospects import prospects, sentences
from fuser_service.core.rules import Vote
from fuser_service.core.shares import fused, log_statistic, normalised, pooled
from fuser_service.core.state import QueryState
from fuser_service.core.types import (
    Candidate,
    Judgements,
    MemberName,
    Proposal,
    Shares,
)

MOST_CANDIDATES: Final = 64
"""Most that one call may ask scores of. No ensemble has more members."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The candidates of a round, their fused shares, and the verifiers' own; `winner` is an index.

    Without a vote there are no `judgements`, and the winner has the whole share. `draft` is what is
    committed: the winner, or after a vote on words how its proposers went on. `confidence` is the
    best `geometric` statistic that any verifier gives it; None if nobody scored it.
    """

    candidates: tuple[DistinctCandidate, ...]
    fused: Shares
    winner: int
    draft: Proposal
    confidence: float | None
    judgements: Judgements = field(default_factory=dict)

    @property
    def winning(self) -> DistinctCandidate:
        """The candidate to commit."""
        return self.candidates[self.winner]

    def share_of(self, member: MemberName) -> float:
        """The fused share of a member's candidate; 0 if it has none."""
        return next(
            (
                share
                for candidate, share in zip(self.candidates, self.fused, strict=True)
                if member in candidate.proposers
            ),
            0.0,
        )


def without_vote(state: QueryState, winner: int = 0) -> Verdict:
    """The verdict if nobody needs to be asked: a consensus, or a finished candidate taken fast."""
    candidates = state.candidates
    whole = tuple(float(index == winner) for index in range(len(candidates)))
    return _verdict(state, whole, winner, {})


def by_vote(state: QueryState, verifiers: Iterable[MemberName]) -> Verdict:
    """The verdict of these verifiers, which scored every candidate; there is at least one.

    Of equal shares, the one with the earliest proposer wins.
    """
    candidates = state.candidates
    judgements = {verifier: _judgement(state, verifier) for verifier in verifiers}
    if state.rules.vote is Vote.WORDS:
        leads = [state.rules.foresight * sureness for sureness in prospects(state)]
        given = _logprobs(state, judgements)
        shares = pooled(given, state.weights, state.rules.sharpness, leads)
    else:
        shares = fused(candidates, judgements, state.weights, state.rules.self_judgement)
    return _verdict(state, shares, shares.index(max(shares)), judgements)


def _logprobs(
    state: QueryState, verifiers: Iterable[MemberName]
) -> dict[MemberName, tuple[float, ...]]:
    """What each verifier gives each candidate, in nats."""
    candidates = [distinct.candidate for distinct in state.candidates]
    return {
        verifier: tuple(state.round.scores[verifier][one].logprob_sum for one in candidates)
        for verifier in verifiers
    }


def _verdict(state: QueryState, shares: Shares, winner: int, judgements: Judgements) -> Verdict:
    draft = winning_draft(state, state.candidates[winner])
    text = candidate_of(draft)
    confidence = _confidence_in(state, text) if text else None
    return Verdict(state.candidates, shares, winner, draft, confidence, judgements)


def winning_draft(state: QueryState, winning: DistinctCandidate) -> Proposal:
    """What is committed if this candidate wins and nobody objects."""
    proposals = state.round.proposals
    drafts = [proposals[member] for member in winning.proposers]
    if state.rules.vote is Vote.SEGMENTS or candidate_of(drafts[0]) == winning.candidate:
        return drafts[0]
    if len(state.candidates) > 1:
        return common_head(drafts)
    return head(drafts[0], len(winning.candidate.text))


def verifiers(state: QueryState) -> tuple[MemberName, ...]:
    """The members that have scored every candidate."""
    voted = [c.candidate for c in state.candidates]
    return tuple(m for m in state.present if not missing(state, m, voted))


def to_be_scored(state: QueryState) -> Sequence[Candidate]:
    """What is to be scored in this round: candidates, what would be committed, sentences.

    Where that is more than one call may ask, drafts are left out, never candidates.
    """
    candidates = state.candidates
    wanted = [c.candidate for c in candidates]
    if state.rules.vote is Vote.WORDS:
        drafts = (candidate_of(winning_draft(state, c)) for c in candidates)
        ahead = sentences(state) if len(candidates) > 1 and state.rules.foresight else ()
        wanted = [*wanted, *(draft for draft in drafts if draft), *ahead]
        wanted = list(dict.fromkeys(wanted))[:MOST_CANDIDATES]
    return wanted


def missing(
    state: QueryState, member: MemberName, wanted: Sequence[Candidate]
) -> tuple[Candidate, ...]:
    """What a member of this round has not scored of what is wanted."""
    known = state.round.scores.get(member, {})
    return tuple(candidate for candidate in wanted if candidate not in known)


def _confidence_in(state: QueryState, candidate: Candidate) -> float | None:
    return best_confidence(
        score
        for member in state.present
        if (score := state.round.scores.get(member, {}).get(candidate))
    )


def _judgement(state: QueryState, verifier: MemberName) -> Shares:
    given = state.round.scores[verifier]
    if state.rules.vote is Vote.WORDS:
        return normalised([given[c.candidate].logprob_sum for c in state.candidates])
    return normalised(
        [log_statistic(given[c.candidate], state.rules.statistic) for c in state.candidates]
    )
