"""Places for requests, and waiting for one. Nothing here takes time but what says so."""

from __future__ import annotations

import asyncio

import pytest

from fuser_service.tenancy.places import Places, Room
from specfuse.deadline import Deadline
from specfuse.errors import DeadlineExceeded, Overloaded

NEVER = Deadline.never()


class Crowd:
    """Requests at a fuser's places; `order` has who got one, in order."""

    def __init__(self, places: int, waiting: int, seconds: float = 60.0) -> None:
        self.now = 0.0
        self.places = Places(Room(places, waiting, seconds), lambda: self.now)
        self.order: list[str] = []
        self.leave: dict[str, asyncio.Event] = {}

    async def come(
        self, name: str, priority: int = 0, deadline: Deadline = NEVER
    ) -> asyncio.Task[None]:
        """Somebody comes, and has got a place or waits when this returns."""
        self.now += 0.001
        self.leave[name] = asyncio.Event()
        task = asyncio.create_task(self._stay(name, priority, deadline))
        await self.settle()
        return task

    async def go(self, name: str) -> None:
        """Somebody leaves."""
        self.leave[name].set()
        await self.settle()

    async def settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    async def _stay(self, name: str, priority: int, deadline: Deadline) -> None:
        async with self.places.place(priority, deadline):
            self.order.append(name)
            await self.leave[name].wait()


async def test_where_nobody_may_wait_a_full_fuser_refuses_at_once() -> None:
    crowd = Crowd(places=1, waiting=0)
    first = await crowd.come("first")
    refused = await crowd.come("second", priority=100)
    with pytest.raises(Overloaded, match="1 requests are in flight, the limit"):
        await refused
    await crowd.go("first")
    await first
    third = await crowd.come("third")
    await crowd.go("third")
    await third
    assert crowd.order == ["first", "third"]


async def test_places_go_to_priority_then_to_who_came_first() -> None:
    crowd = Crowd(places=1, waiting=4)
    tasks = [
        await crowd.come("busy"),
        await crowd.come("low", -1),
        await crowd.come("one"),
        await crowd.come("two"),
        await crowd.come("high", 1),
    ]
    for name in ("busy", "high", "one", "two", "low"):
        await crowd.go(name)
    await asyncio.gather(*tasks)
    assert crowd.order == ["busy", "high", "one", "two", "low"]


async def test_a_full_line_gives_way_to_priority() -> None:
    crowd = Crowd(places=1, waiting=1)
    busy = await crowd.come("busy")
    low = await crowd.come("low")
    high = await crowd.come("high", 10)
    with pytest.raises(Overloaded):
        await low
    with pytest.raises(Overloaded):
        await (await crowd.come("also low"))
    await crowd.go("busy")
    await crowd.go("high")
    await asyncio.gather(busy, high)
    assert crowd.order == ["busy", "high"]


async def test_waiting_ends_in_time() -> None:
    crowd = Crowd(places=1, waiting=5, seconds=0.01)
    busy = await crowd.come("busy")
    with pytest.raises(Overloaded):
        await (await crowd.come("patient"))
    with pytest.raises(DeadlineExceeded, match="before there was a place"):
        await (await crowd.come("in a hurry", deadline=Deadline.after(0.0)))
    await crowd.go("busy")
    await busy
    assert crowd.order == ["busy"]


async def test_who_gives_up_waiting_leaves_the_line() -> None:
    crowd = Crowd(places=1, waiting=1)
    busy, gone = await crowd.come("busy"), await crowd.come("gone")
    gone.cancel()
    await crowd.settle()
    assert crowd.places.waiting == 0
    next_one = await crowd.come("next")
    await crowd.go("busy")
    await crowd.go("next")
    await asyncio.gather(busy, next_one)
    assert crowd.order == ["busy", "next"]


async def test_who_gives_up_in_the_moment_a_place_gets_free_takes_none() -> None:
    crowd = Crowd(places=1, waiting=5)
    busy = await crowd.come("busy")
    gone, next_one = await crowd.come("gone"), await crowd.come("next")
    crowd.leave["busy"].set()
    gone.cancel()  # and is still in the line when the place is handed on
    assert crowd.places.waiting == 2
    await crowd.settle()
    assert gone.cancelled()
    assert crowd.order == ["busy", "next"]
    await crowd.go("next")
    await asyncio.gather(busy, next_one)


async def test_a_place_that_comes_with_the_cancellation_is_handed_on() -> None:
    crowd = Crowd(places=1, waiting=5)
    busy = await crowd.come("busy")
    given, next_one = await crowd.come("given"), await crowd.come("next")
    crowd.leave["busy"].set()
    await asyncio.sleep(0)
    assert (crowd.places.waiting, crowd.order) == (1, ["busy"]), "given, and not yet taken"
    given.cancel()
    await crowd.settle()
    assert given.cancelled()
    assert crowd.order == ["busy", "next"]
    await crowd.go("next")
    await asyncio.gather(busy, next_one)
    async with crowd.places.place(0, NEVER):
        assert crowd.places.waiting == 0


async def test_who_gives_up_in_the_moment_the_line_overflows_is_who_makes_room() -> None:
    crowd = Crowd(places=1, waiting=1)
    busy, gone = await crowd.come("busy"), await crowd.come("gone")
    coming = asyncio.create_task(crowd.come("high", priority=5))
    await asyncio.sleep(0)  # it is about to join
    gone.cancel()
    high = await coming
    await crowd.go("busy")
    await crowd.go("high")
    await asyncio.gather(busy, high)
    assert gone.cancelled()
    assert crowd.order == ["busy", "high"]
