"""Long texts hold up no short ones, and take one thread however many they are."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from model_service.backends.text.lanes import Lanes
from model_service.core.types import (
    Candidate,
    Context,
    Message,
    ProposeRequest,
    Role,
    ScoreRequest,
)
from specfuse.errors import ShuttingDown

LONG = "word " * 20_000
SHORT = ProposeRequest(Context("Hello"), 8)
LONG_REQUESTS = {
    "raw": ProposeRequest(Context(LONG), 8),
    "conversation": ProposeRequest(Context((Message(Role.USER, LONG),)), 8),
    "committed": ProposeRequest(Context("Hello", ("So", LONG)), 8),
    "candidates": ScoreRequest(Context("Hello"), (Candidate(LONG, finished=False),)),
}


class Held:
    """Makes a call of any request once it is let go, and knows how many it makes at a time."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.at_once = 0
        self.most_at_once = 0
        self.began = threading.Event()

    def make(self, _request: ProposeRequest | ScoreRequest) -> str:
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        self.began.set()
        self.go.wait()
        self.at_once -= 1
        return "made"


@asynccontextmanager
async def lanes_with(held: Held) -> AsyncIterator[Lanes]:
    lanes = Lanes()
    try:
        yield lanes
    finally:
        held.go.set()
        lanes.close()


@pytest.mark.parametrize("request_", LONG_REQUESTS.values(), ids=LONG_REQUESTS)
async def test_a_short_text_passes_the_long_ones(request_: ProposeRequest | ScoreRequest) -> None:
    held = Held()
    async with lanes_with(held) as lanes:
        long = [asyncio.create_task(lanes.run(held.make, request_)) for _ in range(8)]
        await asyncio.to_thread(held.began.wait)
        assert await lanes.run(lambda _: "short", SHORT) == "short"
        assert not any(task.done() for task in long)
        held.go.set()
        assert await asyncio.gather(*long) == ["made"] * 8
        assert held.most_at_once == 1


async def test_what_making_a_call_raises_is_raised() -> None:
    async with lanes_with(Held()) as lanes:
        with pytest.raises(ZeroDivisionError):
            await lanes.run(lambda _: 1 / 0, LONG_REQUESTS["raw"])


@pytest.mark.parametrize("request_", [SHORT, LONG_REQUESTS["raw"]])
async def test_closed_lanes_take_nothing(request_: ProposeRequest) -> None:
    async with lanes_with(Held()) as lanes:
        pass
    with pytest.raises(ShuttingDown):
        await lanes.run(lambda _: "made", request_)
