"""The next step of a query: what to ask of whom, or how it ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fuser_service.core.types import Candidate, FinishReason, MemberName


@dataclass(frozen=True, slots=True)
class Propose:
    """Ask these members for at most `max_tokens` tokens each.

    Once `required` of them have answered, the others need not be waited for much longer.
    """

    members: tuple[MemberName, ...]
    max_tokens: int
    required: int


@dataclass(frozen=True, slots=True)
class Score:
    """Ask each verifier for its scores of these candidates (at least one each), in order.

    Once `required` of them have answered, the others need not be waited for much longer.
    """

    assignments: Mapping[MemberName, tuple[Candidate, ...]]
    required: int


@dataclass(frozen=True, slots=True)
class Finish:
    """The answer is complete; `text` was held back until now and ends it."""

    reason: FinishReason
    text: str


@dataclass(frozen=True, slots=True)
class LoseQuorum:
    """The query cannot go on: `present` members are left or answered, fewer than `quorum`."""

    present: int
    quorum: int


Step = Propose | Score | Finish | LoseQuorum
