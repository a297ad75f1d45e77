"""The verdict of a round: what each verifier made of the candidates, and which one wins."""

from __future__ import annotations

from dataclasses import dataclass, field

from fuser_service.core.candidates import DistinctCandidate
from fuser_service.core.exits import confidence as best_confidence
from fuser_service.core.shares import fused, log_statistic, normalised
from fuser_service.core.state import QueryState
from fuser_service.core.types import Candidate, Judgements, MemberName, Shares


@dataclass(frozen=True, slots=True)
class Verdict:
    """The candidates of a round, their fused shares, and the verifiers' own; `winner` is an index.

    Without a vote there are no `judgements`, and the winner has the whole share. `confidence` is
    the best `geometric` statistic that any verifier gives the winner; None if nobody scored it.
    """

    candidates: tuple[DistinctCandidate, ...]
    fused: Shares
    winner: int
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
    candidates = state.round.candidates
    whole = tuple(float(index == winner) for index in range(len(candidates)))
    return Verdict(candidates, whole, winner, _confidence_in(state, candidates[winner].candidate))


def by_vote(state: QueryState) -> Verdict:
    """The verdict of the verifiers that scored every candidate; there is at least one.

    Of equal shares, the one with the earliest proposer wins.
    """
    candidates = state.round.candidates
    judgements = {verifier: _judgement(state, verifier) for verifier in verifiers(state)}
    shares = fused(candidates, judgements, state.weights, state.rules.self_judgement)
    winner = shares.index(max(shares))
    confidence = _confidence_in(state, candidates[winner].candidate)
    return Verdict(candidates, shares, winner, confidence, judgements)


def verifiers(state: QueryState) -> tuple[MemberName, ...]:
    """The members that have scored every candidate."""
    return tuple(member for member in state.present if not missing(state, member))


def missing(state: QueryState, member: MemberName) -> tuple[Candidate, ...]:
    """The candidates that a member of this round has not scored."""
    known = state.round.scores[member]
    return tuple(c.candidate for c in state.round.candidates if c.candidate not in known)


def _confidence_in(state: QueryState, candidate: Candidate) -> float | None:
    return best_confidence(
        score for member in state.present if (score := state.round.scores[member].get(candidate))
    )


def _judgement(state: QueryState, verifier: MemberName) -> Shares:
    given = state.round.scores[verifier]
    return normalised(
        [log_statistic(given[c.candidate], state.rules.statistic) for c in state.round.candidates]
    )
