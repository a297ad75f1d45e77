"""The verdict of a round: what each verifier made of the candidates, and which one wins."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fuser_service.core import recall, shares
from fuser_service.core.statistics import log_statistic

if TYPE_CHECKING:
    from fuser_service.core.candidates import DistinctCandidate
    from fuser_service.core.shares import Judgements, Shares
    from fuser_service.core.state import QueryState
    from fuser_service.core.types import Candidate, MemberName


@dataclass(frozen=True, slots=True)
class Verdict:
    """The candidates of a round, their fused shares, and the verifiers' own; `winner` is an index.

    Without a vote there are no `judgements`, and the winner has the whole share.
    """

    candidates: tuple[DistinctCandidate, ...]
    fused: Shares
    winner: int
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


def without_vote(candidates: tuple[DistinctCandidate, ...], winner: int = 0) -> Verdict:
    """The verdict where nobody needs asking: a consensus, or a finished candidate taken fast."""
    fused = tuple(float(index == winner) for index in range(len(candidates)))
    return Verdict(candidates, fused, winner)


def by_vote(state: QueryState) -> Verdict:
    """The verdict of the verifiers that scored every candidate; there is at least one.

    Of equal shares, the one with the earliest proposer wins.
    """
    candidates = state.round.candidates
    judgements = {judge: _judgement(state, judge) for judge in judges(state)}
    fused = shares.fused(candidates, judgements, state.weights, state.rules.self_judgement)
    return Verdict(candidates, fused, fused.index(max(fused)), judgements)


def judges(state: QueryState) -> tuple[MemberName, ...]:
    """The members that have scored every candidate."""
    return tuple(member for member in state.present if not missing(state, member))


def missing(state: QueryState, member: MemberName) -> tuple[Candidate, ...]:
    """The candidates that a member of this round has not scored."""
    known = state.round.scores[member]
    return tuple(c.candidate for c in state.round.candidates if c.candidate not in known)


def confidence_in(state: QueryState, candidate: Candidate) -> float | None:
    """The best `geometric` statistic that any active verifier gives the candidate, if any does."""
    return recall.confidence(
        score for member in state.present if (score := state.round.scores[member].get(candidate))
    )


def _judgement(state: QueryState, judge: MemberName) -> Shares:
    given = state.round.scores[judge]
    return shares.normalised(
        [log_statistic(given[c.candidate], state.rules.statistic) for c in state.round.candidates]
    )
