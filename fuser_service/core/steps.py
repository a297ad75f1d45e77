"""The next step of a query (what to ask of whom, or how it ends), and what became of the asking.

A result is a value: an answer, or why there is none. Never an exception.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from fuser_service.core.types import Candidate, FinishReason, MemberName


@dataclass(frozen=True, slots=True)
class Propose:
    """Ask these members for at most `max_tokens` tokens each.

    Once `required` of them have answered, the others need not be waited for much longer. If members
    are `standing_by`, who would be asked instead, none is worth a long wait. `relief` can be asked
    as well, once those asked are overdue, as a part of the same step.
    """

    members: tuple[MemberName, ...]
    max_tokens: int
    required: int
    standing_by: bool = False
    relief: Relief | None = None


@dataclass(frozen=True, slots=True)
class Relief:
    """Members that can draft where others are overdue; `required` of all are enough then."""

    members: tuple[MemberName, ...]
    required: int


@dataclass(frozen=True, slots=True)
class Verify:
    """Ask each verifier for its scores of these candidates (at least one each), in order.

    `required` and `standing_by` are as for `Propose`.
    """

    assignments: Mapping[MemberName, tuple[Candidate, ...]]
    required: int
    standing_by: bool = False


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


Step = Propose | Verify | Finish | LoseQuorum


Answer_co = TypeVar("Answer_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Ok(Generic[Answer_co]):
    """The member answered."""

    value: Answer_co


@dataclass(frozen=True, slots=True)
class Failed:
    """The member is lost to the query. `detail` holds no prompt or answer text.

    `may_pass` says that it could not be reached, so that it may be asked again in a later round;
    otherwise it gave what no member may give, and is not trusted again.
    """

    detail: str
    may_pass: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """The member finds the request itself wrong, and cannot be used any more in this query.

    `outgrown` says that the context does not fit its window. `detail` holds no prompt or answer
    text.
    """

    detail: str
    outgrown: bool = False


@dataclass(frozen=True, slots=True)
class Busy:
    """The member has no room for the call: it sits the round out. Nobody had to wait for that."""


@dataclass(frozen=True, slots=True)
class Late:
    """The member did not answer in time: it sits the round out."""


Result = Ok[Answer_co] | Failed | Refused | Busy | Late
