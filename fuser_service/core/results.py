"""What became of asking a member: a value, or why there is none. Never an exception."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

Answer_co = TypeVar("Answer_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Ok(Generic[Answer_co]):
    """The member answered."""

    value: Answer_co


@dataclass(frozen=True, slots=True)
class Failed:
    """The member cannot be used any more in this query. `detail` holds no prompt or answer text."""

    detail: str


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
