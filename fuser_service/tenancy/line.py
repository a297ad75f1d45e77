"""Who waits, in the order in which they get a place. Pure."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Who = TypeVar("Who")


@dataclass(order=True, slots=True)
class _Waiting(Generic[Who]):
    """Each step of priority counts as a second of waiting; among equals, who came first."""

    rank: float
    number: int
    who: Who = field(compare=False)


class Line(Generic[Who]):
    """Higher priority stands in front, but not for ever.

    A priority of 10 goes before one of 0 that came up to 10 seconds earlier. So those who come
    later can overtake only for as long as the priorities differ, and whoever waits gets to the
    front.
    """

    def __init__(self) -> None:
        self._waiting: list[_Waiting[Who]] = []
        self._joined = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def join(self, who: Who, now: float, priority: int) -> None:
        """Somebody comes to wait, at this time in seconds."""
        self._joined += 1
        insort(self._waiting, _Waiting(now - priority, self._joined, who))

    def next(self) -> Who:
        """Takes out who is in front. There must be somebody."""
        return self._waiting.pop(0).who

    def last(self) -> Who:
        """Takes out who is at the end. There must be somebody."""
        return self._waiting.pop().who

    def leave(self, who: Who) -> None:
        """Takes somebody out, if there."""
        self._waiting = [one for one in self._waiting if one.who is not who]
