"""Which slot a session is computed in."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from model_service.backends.llama_cpp.slots import Slots


async def slot_of(slots: Slots, session: str) -> int:
    async with slots.of(session) as slot:
        return slot


async def test_a_session_keeps_its_slot() -> None:
    slots = Slots(4)
    first = await slot_of(slots, "a")
    others = {await slot_of(slots, name) for name in "bcd"}
    assert first not in others
    assert await slot_of(slots, "a") == first


async def test_a_new_session_takes_the_slot_that_was_longest_unused() -> None:
    slots = Slots(2)
    a, b = await slot_of(slots, "a"), await slot_of(slots, "b")
    assert await slot_of(slots, "a") == a
    assert await slot_of(slots, "c") == b


async def test_a_slot_is_for_one_at_a_time() -> None:
    slots = Slots(1)
    async with slots.of("a"):
        waiting = asyncio.create_task(slot_of(slots, "a"))
        await asyncio.sleep(0)
        assert not waiting.done()
    assert await waiting == 0


async def test_sessions_spread_while_others_are_at_work() -> None:
    slots = Slots(3)
    async with AsyncExitStack() as stack:
        taken = {await stack.enter_async_context(slots.of(name)) for name in "abc"}
    assert taken == {0, 1, 2}


async def test_those_without_a_session_share_no_slot_at_once() -> None:
    slots = Slots(2)
    async with slots.of("") as one, slots.of("") as other:
        assert one != other


async def test_who_gives_up_waiting_leaves_nothing_behind() -> None:
    slots = Slots(1)
    async with slots.of("a"):
        waiting = asyncio.create_task(slot_of(slots, "b"))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert await slot_of(slots, "c") == 0
