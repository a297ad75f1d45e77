"""Bodies are bounded one by one and together, however they come and end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

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
    assert await Bodies(BOUNDS).read(coming([b"ab", b"", b"cd"]), "4") == b"abcd"


@pytest.mark.parametrize("announced", ["11", ""])
async def test_a_body_that_is_too_large_is_refused_as_soon_as_that_is_known(announced: str) -> None:
    with pytest.raises(BodyRefused, match="at most 10 bytes are allowed") as caught:
        await Bodies(BOUNDS).read(coming([b"x" * 11, b"never read"]), announced)
    assert caught.value.status == 413


async def test_a_caller_that_leaves_is_known_to_have_left() -> None:
    with pytest.raises(CallerGone):
        await Bodies(BOUNDS).read(coming([b"ab", GONE]), "4")


async def test_what_does_not_come_is_not_waited_for() -> None:
    async def never() -> Message:
        await asyncio.Event().wait()
        return {}

    with pytest.raises(BodyRefused, match=r"not complete after 0\.01 s") as caught:
        await Bodies(Bounds(body_seconds=0.01)).read(never, "")
    assert caught.value.status == 408


@given(requests=st.lists(st.lists(st.none() | st.binary(max_size=8), min_size=1), max_size=8))
def test_nothing_is_held_of_what_has_ended(requests: list[list[bytes | None]]) -> None:
    """So the next one finds all the room there is."""
    bodies = Bodies(BOUNDS)

    async def read_all() -> bytes:
        for pieces in requests:
            try:
                await bodies.read(coming([*pieces, GONE]), "")
            except (BodyRefused, CallerGone):
                continue
        return await bodies.read(coming([b"x" * 10]), "10")

    assert asyncio.run(read_all()) == b"x" * 10


async def test_there_is_room_for_so_much_together() -> None:
    bodies, rest = Bodies(BOUNDS), asyncio.Event()

    async def first() -> Message:
        if rest.is_set():
            return {"type": "http.request", "body": b"", "more_body": False}
        began.set()
        return {"type": "http.request", "body": b"x" * 8, "more_body": True}

    async def held() -> Message:
        if began.is_set():
            await rest.wait()
        return await first()

    began = asyncio.Event()
    reading = asyncio.create_task(bodies.read(held, ""))
    await began.wait()
    with pytest.raises(BodyRefused, match="there is no room") as caught:
        await bodies.read(coming([b"y" * 8]), "8")
    assert caught.value.status == 503
    rest.set()
    assert await reading == b"x" * 8
