"""Load that does not wait for answers: callers come at a rate, whoever is still being answered.

A caller that waits for an answer before it asks again slows down with what it measures, and so
hides what callers who do not know of each other would see. Here the times at which questions are
due are drawn beforehand, and waiting counts from then on.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

Ask = Callable[[int], Awaitable[float]]
"""Asks the question of this number and reads all of its answer. Returns when its first segment
came, by `time.monotonic`."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a question: seconds from the beginning until it was due, until the first segment
    and the end of its answer came; or what went wrong."""

    due: float
    first: float
    end: float
    error: str = ""

    @property
    def first_seconds(self) -> float:
        """How long its caller waited for the first segment."""
        return self.first - self.due

    @property
    def answer_seconds(self) -> float:
        """How long its caller waited for all of the answer."""
        return self.end - self.due


def due_times(rate: float, seconds: float, seed: int) -> list[float]:
    """When questions are due within so many seconds: a Poisson process of `rate` a second."""
    draws = random.Random(seed)
    times: list[float] = []
    at = draws.expovariate(rate)
    while at < seconds:
        times.append(at)
        at += draws.expovariate(rate)
    return times


async def offered(ask: Ask, times: Sequence[float]) -> list[Outcome]:
    """Asks when it is due, whatever became of the questions before. Returns once all is answered.

    A question that fails is an outcome like any other.
    """
    began = time.monotonic()

    async def asked(number: int, due: float) -> Outcome:
        try:
            first = await ask(number)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is counted
            now = time.monotonic() - began
            return Outcome(due, now, now, error=type(error).__name__)
        return Outcome(due, first - began, time.monotonic() - began)

    async with asyncio.TaskGroup() as group:
        tasks = []
        for number, due in enumerate(times):
            await asyncio.sleep(due - (time.monotonic() - began))
            tasks.append(group.create_task(asked(number, due)))
    return [task.result() for task in tasks]


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of the values that so many percent of them do not exceed; nan of none."""
    if not values:
        return math.nan
    return sorted(values)[max(1, math.ceil(percent / 100 * len(values))) - 1]
