"""A call that gets company: who wins, what is cancelled, and whose error counts."""

from __future__ import annotations

import asyncio

import pytest

from fuser_service.mesh.race import Race
from specfuse.errors import InvalidArgument, Overloaded, Unavailable


class Call:
    """Ends as it is told to, once it is let go."""

    def __init__(self, ending: str | Exception) -> None:
        self.go = asyncio.Event()
        self.entered = asyncio.Event()
        self.cancelled = False
        self._ending = ending

    async def __call__(self) -> str:
        self.entered.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if isinstance(self._ending, Exception):
            raise self._ending
        return self._ending


class Run:
    """A race in a task of its own, both calls of which are being made."""

    def __init__(self, first: Call, second: Call) -> None:
        self.first, self.second = first, second
        self.race = Race[str]()
        self.task = asyncio.create_task(self.run())

    async def run(self) -> str:
        try:
            return await self.race.run(self.first())
        finally:
            await self.race.stop()

    async def begun(self) -> Run:
        await self.first.entered.wait()
        self.race.join(self.second())
        await self.second.entered.wait()
        return self


async def running(first: str | Exception, second: str | Exception) -> Run:
    return await Run(Call(first), Call(second)).begun()


async def turns() -> None:
    """Lets everything happen that can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_alone_it_is_the_call_itself() -> None:
    race = Race[str]()
    call = Call("first")
    call.go.set()
    assert await race.run(call()) == "first"
    await race.stop()
    assert not race.second_won


async def test_the_first_to_answer_wins_and_the_other_is_cancelled() -> None:
    run = await running("first", "second")
    run.first.go.set()
    assert await run.task == "first"
    assert run.second.cancelled
    assert not run.race.second_won
    assert not run.race.overtaken


async def test_a_second_that_is_faster_wins_and_nobody_is_left_cancelled() -> None:
    run = await running("first", "second")
    run.second.go.set()
    assert await run.task == "second"
    assert run.first.cancelled
    assert run.race.second_won
    assert run.race.overtaken
    assert run.task.cancelling() == 0


@pytest.mark.parametrize("minor", [Unavailable("gone"), Overloaded("full")])
async def test_what_is_one_s_own_leaves_the_other_to_answer(minor: Exception) -> None:
    run = await running(minor, "second")
    run.first.go.set()
    await turns()
    run.second.go.set()
    assert await run.task == "second"
    assert run.race.second_won
    assert not run.race.overtaken

    run = await running("first", minor)
    run.second.go.set()
    await turns()
    run.first.go.set()
    assert await run.task == "first"
    assert not run.race.second_won


@pytest.mark.parametrize("first_ends_first", [True, False])
async def test_where_both_fail_the_last_error_is_told(first_ends_first: bool) -> None:
    run = await running(Unavailable("first"), Unavailable("second"))
    calls = [run.first, run.second] if first_ends_first else [run.second, run.first]
    for call in calls:
        call.go.set()
        await turns()
    with pytest.raises(Unavailable, match="second" if first_ends_first else "first"):
        await run.task


@pytest.mark.parametrize("faster", ["first", "second"])
async def test_what_both_would_say_ends_it(faster: str) -> None:
    wrong = InvalidArgument("prompt", "is wrong")
    run = await running(wrong, wrong)
    getattr(run, faster).go.set()
    with pytest.raises(InvalidArgument):
        await run.task
    assert run.task.cancelling() == 0


async def test_cancelling_the_race_cancels_both() -> None:
    run = await running("first", "second")
    run.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run.task
    assert run.first.cancelled
    assert run.second.cancelled


async def test_a_cancellation_is_not_lost_to_an_answer_in_the_same_turn() -> None:
    run = await running("first", "second")
    run.second.go.set()
    await run.second.entered.wait()
    run.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run.task


async def test_both_may_answer_in_the_same_turn() -> None:
    run = await running("first", "second")
    run.first.go.set()
    run.second.go.set()
    assert await run.task in {"first", "second"}
    assert run.task.cancelling() == 0
