"""Distinct candidates: what the members' proposals come down to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fuser_service.core.types import Candidate, MemberName, Proposal, SegmentFinish


@dataclass(frozen=True, slots=True)
class DistinctCandidate:
    """A candidate, and who proposed it in the ensemble's order (at least one member)."""

    candidate: Candidate
    proposers: tuple[MemberName, ...]


def candidate_of(proposal: Proposal) -> Candidate | None:
    """What a proposal puts up for judgement; None if it is empty and unfinished.

    Only the model's own end token makes a candidate finished: that decision is scored like any
    other token. A proposal that ends with a stop string has the string in its text, and no end
    token was drawn, so there is none to score; the answer ends all the same once it is committed.
    """
    finished = proposal.finish is SegmentFinish.END
    return Candidate(proposal.text, finished) if proposal.text or finished else None


def distinct_candidates(
    proposals: Mapping[MemberName, Proposal],
) -> tuple[DistinctCandidate, ...]:
    """The distinct candidates by (text, finished), in the order of their earliest proposers.

    `proposals` must be in the ensemble's order.
    """
    proposers: dict[Candidate, list[MemberName]] = {}
    for member, proposal in proposals.items():
        if candidate := candidate_of(proposal):
            proposers.setdefault(candidate, []).append(member)
    return tuple(DistinctCandidate(c, tuple(members)) for c, members in proposers.items())
