"""What became of asking a member: a value, a failure, or nothing in time. Never an exception."""

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
class Late:
    """The member did not answer in time: it sits the round out."""


Result = Ok[Answer_co] | Failed | Late
