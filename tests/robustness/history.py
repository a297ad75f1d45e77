"""What callers asked and what came of it: the record that a run is judged by."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Asked:
    """A question left for the mesh at a time, to be answered within `timeout` seconds."""

    call: int
    question: str
    at: float
    timeout: float


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer came.

    `segments` are the committed ones that the caller received. `missed` are the members of which it
    says that they missed rounds, `absent` those without whose proposal or judgement some round was
    decided.
    """

    call: int
    at: float
    text: str
    segments: tuple[str, ...]
    degraded: bool = False
    lost: tuple[str, ...] = ()
    missed: tuple[str, ...] = ()
    absent: frozenset[str] = frozenset()
    resumed: int = 0

    @property
    def whole(self) -> bool:
        """Whether everybody had a part in it, in every round."""
        return not (self.degraded or self.lost or self.missed or self.absent)


@dataclass(frozen=True, slots=True)
class Failed:
    """An error came, of this class.

    `segments` are the committed ones that the caller had received by then, `resume` those of the
    error's resume point; None if it has none.
    """

    call: int
    at: float
    error: str
    segments: tuple[str, ...] = ()
    resume: tuple[str, ...] | None = None


End = Answered | Failed


@dataclass(slots=True)
class History:
    """All records of a run, in the order in which they came about."""

    asked: list[Asked] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def ask(self, question: str, at: float, timeout: float) -> Asked:
        """Records a question, under a number of its own."""
        asked = Asked(len(self.asked), question, at, timeout)
        self.asked.append(asked)
        return asked

    def end(self, end: End) -> None:
        """Records what came of a question."""
        self.ends.append(end)
        self._news.set()

    def ends_of(self, *, asked_from: float, asked_to: float = float("inf")) -> list[End]:
        """What came of the questions that were asked in this time, in the order of the ends."""
        return [end for end in self.ends if asked_from <= self.asked[end.call].at < asked_to]

    def seconds(self, end: End) -> float:
        """How long the caller waited."""
        return end.at - self.asked[end.call].at

    async def until(self, happened: Callable[[], bool]) -> None:
        """Returns once it happened; looks after every record."""
        while not happened():
            self._news.clear()
            await self._news.wait()
