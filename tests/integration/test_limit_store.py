"""Limits that all replicas count together, in a real server."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from fuser_service.tenancy.caller import Team
from fuser_service.tenancy.counters import LocalCounters
from fuser_service.tenancy.settings import Store
from fuser_service.tenancy.store import SharedCounters
from model_service.backends.scripted.settings import Line
from specfuse.errors import Misconfigured, RateLimited
from specfuse.rpc.errors import from_rpc_error
from tests.support.fuser_mesh import Nodes, open_fuser
from tests.support.store import PROGRAM, StoreServer

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs valkey-server or redis-server")

TEAM = Team("t", requests_per_minute=3, output_tokens_per_minute=10)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StoreServer]:
    server = StoreServer(tmp_path)
    server.start()
    yield server
    server.end()


class Replicas:
    """Counters of replicas that share a store; `failures` counts how often they could not."""

    def __init__(self, stack: AsyncExitStack, server: StoreServer) -> None:
        self._stack = stack
        self._server = server
        self.failures = 0
        self.now = 0.0

    def another(self, **settings: Any) -> SharedCounters:
        section = {
            "url": self._server.url,
            "password_file": self._server.password_file,
            "timeout_seconds": 5.0,
            **settings,
        }
        counters = SharedCounters(
            Store(**section), LocalCounters(replicas=2), self._fail, lambda: self.now
        )
        self._stack.push_async_callback(counters.close)
        return counters

    def _fail(self) -> None:
        self.failures += 1


@pytest.fixture
async def replicas(server: StoreServer) -> AsyncIterator[Replicas]:
    async with AsyncExitStack() as stack:
        yield Replicas(stack, server)


async def test_requests_are_counted_exactly_whichever_replica_takes_them(
    replicas: Replicas,
) -> None:
    both = replicas.another(), replicas.another()
    waits = await asyncio.gather(*(both[n % 2].take_request(TEAM) for n in range(20)))
    assert waits.count(0.0) == 3
    assert all(1.0 <= wait <= 60.0 for wait in waits if wait)
    assert await both[0].take_request(Team("unlimited")) == 0.0
    assert replicas.failures == 0


async def test_tokens_that_one_replica_counts_delay_requests_at_another(
    replicas: Replicas,
) -> None:
    one, other = replicas.another(), replicas.another()
    assert await other.tokens_wait(TEAM) == 0.0
    one.count_tokens(TEAM, 9)
    one.count_tokens(TEAM, 31)
    await one.close()  # they are counted by then
    assert 1.0 <= await other.tokens_wait(TEAM) <= 60.0
    assert await other.tokens_wait(Team("other", output_tokens_per_minute=1)) == 0.0
    assert replicas.failures == 0


async def test_without_the_store_each_replica_allows_its_part(
    replicas: Replicas,
    server: StoreServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    counters = replicas.another()
    assert await counters.take_request(TEAM) == 0.0
    server.end()
    waits = [await counters.take_request(TEAM) for _ in range(3)]
    assert [bool(wait) for wait in waits] == [False, True, True], "1 of 3 at 2 replicas"
    assert replicas.failures == 1
    assert f"tenancy.store {server.url}: " in caplog.text
    counters.count_tokens(TEAM, 5)
    await counters.close()
    assert await counters.tokens_wait(TEAM) > 0

    server.start()
    assert await counters.take_request(TEAM) > 0, "it is left alone for some seconds"
    replicas.now += 5.0
    waits = [await counters.take_request(TEAM) for _ in range(4)]
    assert [bool(wait) for wait in waits] == [False, False, False, True], "the store counts again"


async def test_a_store_that_hangs_costs_no_more_than_its_time(
    replicas: Replicas, server: StoreServer
) -> None:
    counters = replicas.another(timeout_seconds=0.05)
    os.kill(server.pid, signal.SIGSTOP)
    try:
        assert await counters.take_request(TEAM) == 0.0
        assert await counters.take_request(TEAM) > 0.0
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert replicas.failures == 1


async def test_a_wrong_password_is_a_failure_and_a_missing_file_a_mistake(
    replicas: Replicas, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("not the one")
    assert await replicas.another(password_file=wrong).take_request(TEAM) == 0.0
    assert replicas.failures == 1
    assert "not the one" not in caplog.text
    with pytest.raises(Misconfigured, match=r"tenancy.store.password_file: .*missing"):
        replicas.another(password_file=tmp_path / "missing")


async def test_two_fusers_allow_together_what_one_would(server: StoreServer) -> None:
    store = {"url": server.url, "password_file": str(server.password_file), "timeout_seconds": 5.0}
    teams = {"anonymous": {"requests_per_minute": 3}}
    tenancy = {"anonymous": "allow", "teams": teams, "store": store}
    async with Nodes() as nodes:
        node = await nodes.start("a", Line(answer="Paris"))
        fusers = [
            await nodes.enter_async_context(open_fuser({"a": node}, top={"tenancy": tenancy}))
            for _ in range(2)
        ]
        for turn in range(3):
            assert (await fusers[turn % 2].ask()).text == "Paris"
        for fuser in fusers:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await fuser.ask()
            assert isinstance(from_rpc_error(refused.value), RateLimited)
            assert await fuser.metric("specfuse_limit_store_failures_total") == 0
