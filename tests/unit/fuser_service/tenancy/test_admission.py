"""What a team may have, counted in one process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from fuser_service.tenancy.admission import Admission
from fuser_service.tenancy.caller import Team
from fuser_service.tenancy.counters import LocalCounters, share_of
from fuser_service.tenancy.places import Places, Room
from specfuse.deadline import Deadline
from specfuse.errors import Overloaded, RateLimited

NEVER = Deadline.never()


class Minutes:
    """An admission whose clock the test sets."""

    def __init__(self, replicas: int = 1, places: int = 100) -> None:
        self.now = 1000.0
        counters = LocalCounters(replicas, lambda: self.now)
        self.admission = Admission(Places(Room(places)), counters, replicas)

    async def ask(self, team: Team, tokens: int = 0) -> None:
        """A request that takes no time, and so many tokens."""
        async with answered(self.admission, team, tokens):
            pass


@asynccontextmanager
async def answered(admission: Admission, team: Team, tokens: int = 0) -> AsyncIterator[None]:
    """A request that is being answered, and takes so many tokens."""
    async with admission.admitted(team, lambda: tokens), admission.place(team, NEVER):
        yield


async def test_requests_of_any_minute() -> None:
    minutes, team = Minutes(), Team("t", requests_per_minute=2)
    await minutes.ask(team)
    minutes.now += 20
    await minutes.ask(team)
    minutes.now += 5.5
    with pytest.raises(RateLimited, match="requests_per_minute: the team has had its 2") as error:
        await minutes.ask(team)
    assert error.value.retry_after_seconds == 35
    await minutes.ask(Team("other", requests_per_minute=2))
    minutes.now += 34.5
    await minutes.ask(team)
    with pytest.raises(RateLimited):
        await minutes.ask(team)


async def test_tokens_of_any_minute_and_who_is_refused_has_made_no_request() -> None:
    minutes = Minutes()
    team = Team("t", requests_per_minute=3, output_tokens_per_minute=10)
    await minutes.ask(team, tokens=9)
    await minutes.ask(team, tokens=500)
    for _ in range(5):
        with pytest.raises(RateLimited, match="output_tokens_per_minute") as error:
            await minutes.ask(team)
        assert error.value.retry_after_seconds == 60
    minutes.now += 60
    await minutes.ask(team)


async def test_tokens_count_if_the_work_fails_too() -> None:
    minutes, team = Minutes(), Team("t", output_tokens_per_minute=5)
    with pytest.raises(ZeroDivisionError):
        async with answered(minutes.admission, team, tokens=5):
            raise ZeroDivisionError
    with pytest.raises(RateLimited):
        await minutes.ask(team)


async def test_answers_at_a_time_and_those_that_are_refused_take_nothing() -> None:
    minutes, team = Minutes(places=2), Team("t", requests_in_flight=2)
    async with AsyncExitStack() as running:
        for _ in range(2):
            await running.enter_async_context(answered(minutes.admission, team))
        for _ in range(3):
            with pytest.raises(RateLimited, match="requests_in_flight"):
                await minutes.ask(team)
            with pytest.raises(Overloaded):
                await minutes.ask(Team("unlimited", requests_in_flight=1))
    await minutes.ask(team)
    await minutes.ask(Team("unlimited", requests_in_flight=1))


async def test_who_waits_for_a_place_counts_for_its_team() -> None:
    admission = Admission(Places(Room(places=1, waiting=5, waiting_seconds=60)))
    team = Team("t", requests_in_flight=1)
    async with answered(admission, Team("other")):
        waiting = asyncio.create_task(answered(admission, team).__aenter__())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        with pytest.raises(RateLimited):
            async with answered(admission, team):
                pass
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


@pytest.mark.parametrize(("limit", "replicas", "share"), [(10, 1, 10), (10, 3, 3), (2, 5, 1)])
def test_a_replicas_part_of_a_limit(limit: int, replicas: int, share: int) -> None:
    assert share_of(limit, replicas) == share


async def test_replicas_divide_every_limit() -> None:
    minutes = Minutes(replicas=2)
    await minutes.ask(Team("r", requests_per_minute=2))
    with pytest.raises(RateLimited):
        await minutes.ask(Team("r", requests_per_minute=2))
    await minutes.ask(Team("t", output_tokens_per_minute=10), tokens=5)
    with pytest.raises(RateLimited):
        await minutes.ask(Team("t", output_tokens_per_minute=10))
    async with answered(minutes.admission, Team("f", requests_in_flight=3)):
        with pytest.raises(RateLimited):
            await minutes.ask(Team("f", requests_in_flight=3))
