"""Bodies are bounded one by one and together, however they come and end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specfuse.http.bodies import Bodies, BodyRefused, CallerGone, Message, Receive
from specfuse.http.bounds import Bounds

BOUNDS = Bounds(body_bytes=10, bodies_bytes=15, body_seconds=60.0)
GONE = None


def coming(pieces: Sequence[bytes | None]) -> Receive:
    """A body in pieces; None among them is the caller's leaving."""
    left = list(pieces)

    async def receive() -> Message:
        piece = left.pop(0)
        if piece is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": piece, "more_body": bool(left)}

    return receive


async def test_a_body_is_all_its_pieces() -> None:
    assert await Bodies(BOUNDS).read(coming([b"ab", b"", b"cd"]), "4", "us") == b"abcd"


@pytest.mark.parametrize("announced", ["11", ""])
async def test_a_body_that_is_too_large_is_refused_as_soon_as_that_is_known(announced: str) -> None:
    with pytest.raises(BodyRefused, match="at most 10 bytes are allowed") as caught:
        await Bodies(BOUNDS).read(coming([b"x" * 11, b"never read"]), announced, "us")
    assert caught.value.status == 413


async def test_a_caller_that_leaves_is_known_to_have_left() -> None:
    with pytest.raises(CallerGone):
        await Bodies(BOUNDS).read(coming([b"ab", GONE]), "4", "us")


async def test_what_does_not_come_is_not_waited_for() -> None:
    async def never() -> Message:
        await asyncio.Event().wait()
        return {}

    with pytest.raises(BodyRefused, match=r"not complete after 0\.01 s") as caught:
        await Bodies(Bounds(body_seconds=0.01)).read(never, "", "us")
    assert caught.value.status == 408


@given(requests=st.lists(st.lists(st.none() | st.binary(max_size=8), min_size=1), max_size=8))
def test_nothing_is_held_of_what_has_ended(requests: list[list[bytes | None]]) -> None:
    """So the next one finds all the room there is."""
    bodies = Bodies(BOUNDS)

    async def read_all() -> bytes:
        for pieces in requests:
            try:
                await bodies.read(coming([*pieces, GONE]), "", "us")
            except (BodyRefused, CallerGone):
                continue
        return await bodies.read(coming([b"x" * 10]), "10", "us")

    assert asyncio.run(read_all()) == b"x" * 10


class Held:
    """A body of which all has come but its end."""

    def __init__(self, body: bytes) -> None:
        self.came, self.rest = asyncio.Event(), asyncio.Event()
        self._body = body

    async def receive(self) -> Message:
        if self.came.is_set():
            await self.rest.wait()
            return {"type": "http.request", "body": b"", "more_body": False}
        self.came.set()
        return {"type": "http.request", "body": self._body, "more_body": True}


async def refusal(reading: Coroutine[Any, Any, bytes]) -> int:
    """The status with which a body is refused."""
    with pytest.raises(BodyRefused) as caught:
        await reading
    return caught.value.status


async def test_there_is_room_for_so_much_together_and_for_a_share_of_it_each() -> None:
    bodies, first = Bodies(BOUNDS), Held(b"x" * 8)
    reading = asyncio.create_task(bodies.read(first.receive, "", "us"))
    await first.came.wait()
    assert await refusal(bodies.read(coming([b"y" * 3]), "3", "us")) == 429
    assert await refusal(bodies.read(coming([b"y" * 8]), "8", "others")) == 503
    assert await bodies.read(coming([b"y" * 7]), "7", "others") == b"y" * 7
    first.rest.set()
    assert await reading == b"x" * 8
    assert await bodies.read(coming([b"y" * 10]), "10", "us") == b"y" * 10


def test_a_share_is_a_quarter_or_one_body() -> None:
    assert Bounds(body_bytes=10, bodies_bytes=100).share_bytes == 25
    assert Bounds(body_bytes=50, bodies_bytes=100).share_bytes == 50
