"""As many requests at a time as the server takes."""

from __future__ import annotations

import asyncio

import pytest

from model_service.backends.tgi.places import Places, together
from specfuse.deadline import Deadline
from specfuse.errors import DeadlineExceeded


async def test_no_more_than_there_are_places() -> None:
    places, inside, most = Places(2), 0, 0

    async def work() -> None:
        nonlocal inside, most
        async with places.one(Deadline.never()):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    await together([work() for _ in range(7)])
    assert most == 2


async def test_whoever_waits_too_long_gives_up_and_takes_no_place() -> None:
    places = Places(1)
    async with places.one(Deadline.never()):
        with pytest.raises(DeadlineExceeded):
            async with places.one(Deadline.after(0.0)):
                pytest.fail("there was no place")
    async with places.one(Deadline.after(10.0)):
        pass


async def test_one_failure_ends_the_others_before_it_is_raised() -> None:
    begun, ended = asyncio.Event(), False

    async def fails() -> None:
        await begun.wait()
        raise ValueError("one of them")

    async def works() -> None:
        nonlocal ended
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended = True

    with pytest.raises(ValueError, match="one of them"):
        await together([fails(), works()])
    assert ended
