"""A query's calls over a stream: one for all of them, and nothing of it is lost but the cost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import grpc
import pytest

from fuser_service.core.types import Candidate, Context
from model_service.backends.scripted.settings import Line
from specfuse.deadline import Deadline
from specfuse.errors import DeadlineExceeded, ModelFailure, Unavailable
from tests.support.fuser_mesh import PATIENCE_SECONDS, Node, Nodes, WithoutStreams
from tests.support.grpc_member import ask, calls_of, go_on, member_of, until

ANSWER = Line(answer="so it is and so it was")


class Methods(grpc.aio.ServerInterceptor):
    """Remembers the methods by which a server was called."""

    def __init__(self) -> None:
        self.called: list[str] = []

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[object]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> object:
        self.called.append(handler_call_details.method.split("/")[-1])
        return await continuation(handler_call_details)


@pytest.fixture
async def nodes() -> AsyncIterator[Nodes]:
    async with Nodes() as nodes:
        yield nodes


async def idle(node: Node) -> None:
    await until(lambda: not node.server.calls_in_flight)


async def test_a_query_makes_all_its_calls_over_one_stream(nodes: Nodes) -> None:
    methods = Methods()
    node = await nodes.start("a", ANSWER, interceptors=[methods])
    async with member_of(node) as member:
        query = member.join("s")
        for _ in range(3):
            assert (await go_on(query)).text == "so it"
        (score,) = await query.score(
            Context("?", (), "s"),
            [Candidate("so", finished=False)],
            deadline=Deadline.after(PATIENCE_SECONDS),
        )
        assert score.token_count == 1
        assert [one for one in methods.called if one != "GetModel"] == ["StreamCalls"]
        await idle(node)  # though the stream is open
        query.leave()
        await ask(member, "t")
    assert [one for one in methods.called if one != "GetModel"] == ["StreamCalls"] * 2


async def test_an_error_is_the_answer_to_its_call_and_ends_only_the_stream(nodes: Nodes) -> None:
    failing = Line(when="fail", fails="model_failure")
    node = await nodes.start("a", failing, ANSWER)
    async with member_of(node) as member:
        query = member.join("s")
        await go_on(query)
        for _ in range(5):
            with pytest.raises(ModelFailure):
                await query.score(
                    Context("fail", (), "s"),
                    [Candidate("so", finished=False)],
                    deadline=Deadline.after(PATIENCE_SECONDS),
                )
            assert (await go_on(query)).text == "so it"
        assert member.ready


async def test_a_deadline_that_passes_ends_the_call_at_the_replica(nodes: Nodes) -> None:
    node = await nodes.start("a", ANSWER)
    async with member_of(node) as member:
        query = member.join("s")
        await go_on(query)
        node.backend.hold_from = 0
        with pytest.raises(DeadlineExceeded):
            await go_on(query, seconds=0.2)
        await node.is_cancelled()
        assert node.backend.deadlines[-1].remaining < 1.0
        node.backend.hold_from = None
        assert (await go_on(query)).text == "so it"


async def test_a_cancelled_call_ends_at_the_replica(nodes: Nodes) -> None:
    node = await nodes.start("a", ANSWER)
    async with member_of(node) as member:
        query = member.join("s")
        await go_on(query)
        node.backend.hold_from = 0
        asked = asyncio.create_task(go_on(query))
        await node.comes_to_wait()
        asked.cancel()
        await node.is_cancelled()
        with pytest.raises(asyncio.CancelledError):
            await asked


async def test_a_drain_ends_idle_streams_and_lets_a_call_finish(nodes: Nodes) -> None:
    node = await nodes.start("a", ANSWER)
    async with member_of(node) as member:
        query, other = member.join("s"), member.join("t")
        await go_on(query)
        await go_on(other)
        node.backend.hold_from = 0
        asked = asyncio.create_task(go_on(other))
        await node.comes_to_wait()
        draining = asyncio.create_task(node.server.drain(PATIENCE_SECONDS))
        await until(lambda: not member.awake)
        node.backend.opened.set()
        assert (await asked).text == "so it"
        await asyncio.wait_for(draining, PATIENCE_SECONDS / 2)  # nothing is waited for
        with pytest.raises(Unavailable):
            await go_on(query)


async def test_a_query_whose_replica_drains_goes_on_at_another(nodes: Nodes) -> None:
    replicas = [await nodes.start("a", ANSWER) for _ in range(2)]
    async with member_of(*replicas) as member:
        query = member.join("s")
        await go_on(query)
        first, second = sorted(replicas, key=lambda one: -len(one.backend.sessions))
        await first.server.drain(PATIENCE_SECONDS)
        assert (await go_on(query)).text == "so it"
    assert calls_of(first, second) == [1, 1]


async def test_a_connection_that_breaks_between_calls_costs_no_answer(nodes: Nodes) -> None:
    node = await nodes.start("a", ANSWER)
    async with member_of(node) as member:
        query = member.join("s")
        await go_on(query)
        await node.kill()
        await nodes.start("a", ANSWER, listen=node.address)
        await until(lambda: member.awake)
        assert (await go_on(query)).text == "so it"


async def test_who_says_to_have_streams_and_has_none_is_called_without() -> None:
    async with Nodes(partial(WithoutStreams, say=True)) as nodes:
        node = await nodes.start("a", ANSWER)
        async with member_of(node) as member:
            assert (await ask(member)).text == "so it"
