"""Calls avoided: what a round cost less than the full two calls of every member.

In full a member is asked once to propose and once to score. A round that members come back for asks
the others twice to score; nothing of theirs is avoided then. Calls that a failure or lateness
prevented are not counted: nobody would call that a saving.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Collection

    from fuser_service.core.types import MemberName

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
