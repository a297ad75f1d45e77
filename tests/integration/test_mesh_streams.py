"""A query's calls over a stream: one for all of them, and nothing of it is lost but the cost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from functools import partial
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry

from fuser_service.core.types import Candidate, Context
from model_service.backends.scripted.backend import ScriptedBackend
from model_service.backends.scripted.settings import Line, ScriptedSection
from model_service.doors.grpc.servicer import ModelServicer, rpc_service
from model_service.metrics import ModelMetrics
from model_service.service import ModelService
from model_service.settings import Limits
from specfuse.deadline import Deadline
from specfuse.errors import DeadlineExceeded, InvalidArgument, ModelFailure, Unavailable
from specfuse.rpc.channels import MAX_MESSAGE_BYTES
from specfuse.v1 import fuser_service_pb2 as fuser_pb
from tests.support.fuser_mesh import (
    PATIENCE_SECONDS,
    FuserMesh,
    Node,
    Nodes,
    WithoutStreams,
    open_fuser,
)
from tests.support.grpc_member import ask, calls_of, go_on, member_at, member_of, until

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


class CountsStreams(ModelServicer):
    """Knows how many streams are open, how many there were, and how many ended in good order."""

    def __init__(self, service: ModelService) -> None:
        super().__init__(service)
        self.opened = self.open = self.completed = 0

    async def StreamCalls(self, requests: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        self.opened += 1
        self.open += 1
        try:
            async with aclosing(super().StreamCalls(requests, context)) as answers:
                async for answer in answers:
                    yield answer
            self.completed += 1
        finally:
            self.open -= 1


def counting(servicers: list[CountsStreams]) -> Callable[[ModelService], CountsStreams]:
    """Makes servicers that count, and puts them there."""

    def make(service: ModelService) -> CountsStreams:
        servicers.append(CountsStreams(service))
        return servicers[-1]

    return make


@asynccontextmanager
async def one_that_takes(calls: int) -> AsyncIterator[str]:
    """The address of a model service that takes so many calls at a time on a connection."""
    metrics = ModelMetrics("a", CollectorRegistry())
    backend = ScriptedBackend("a", ScriptedSection(lines=(ANSWER,)), metrics)
    service = rpc_service(ModelService(backend, Limits(), metrics))
    server = grpc.aio.server(options=[("grpc.max_concurrent_streams", calls)])
    port = server.add_insecure_port("127.0.0.1:0")
    service.register(service.servicer, server)
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


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


async def test_idle_streams_of_many_queries_keep_no_call_out() -> None:
    """Even by the least that HTTP/2 asks of servers and proxies, which is 100 calls at a time."""
    async with one_that_takes(100) as address, member_at(address) as member:
        queries = [member.join(str(number)) for number in range(150)]
        for query in queries * 2:
            assert (await go_on(query, seconds=PATIENCE_SECONDS / 2)).text == "so it"
        for query in queries:
            query.leave()


async def test_what_is_too_large_is_wrong_with_the_request_and_not_with_the_replica(
    nodes: Nodes,
) -> None:
    node = await nodes.start("a", ANSWER)
    async with member_of(node) as member:
        query = member.join("s")
        for _ in range(5):
            with pytest.raises(InvalidArgument):
                await query.score(
                    Context("x" * MAX_MESSAGE_BYTES, (), "s"),
                    [Candidate("so", finished=False)],
                    deadline=Deadline.after(PATIENCE_SECONDS),
                )
            assert (await go_on(query)).text == "so it"
        assert member.ready


async def test_a_query_that_is_over_cancels_nothing() -> None:
    servicers: list[CountsStreams] = []
    async with Nodes(counting(servicers)) as nodes:
        node = await nodes.start("a", ANSWER)
        async with member_of(node) as member:
            await ask(member)
            await until(lambda: servicers[0].completed == 1)
            assert servicers[0].opened == 1


@pytest.mark.parametrize("vote", ["segments", "words"])
async def test_answers_are_the_same_with_streams_and_without(vote: str) -> None:
    assert await answered(ModelServicer, vote) == await answered(WithoutStreams, vote)


async def answered(servicer: Callable[[ModelService], ModelServicer], vote: str) -> list[object]:
    """The rounds of an answer that members of this servicer give, without what they took."""
    async with AsyncExitStack() as stack:
        nodes = await stack.enter_async_context(Nodes(servicer))
        members = {
            "a": await nodes.start("a", Line(answer="so it is " * 9, own_probability=0.8)),
            "b": await nodes.start("b", Line(answer="so it was " * 9, own_probability=0.7)),
            "c": await nodes.start("c", Line(answer="so be it " * 9, own_probability=0.6)),
        }
        mesh = await stack.enter_async_context(open_fuser(members, quorum=3, vote=vote))
        await mesh.becomes_ready(*members)
        answer = await mesh.ask(session_id="s")
        assert len(answer.rounds) > 1
        for one in answer.rounds:
            one.ClearField("timings")
        return [*answer.rounds, answer.text, answer.finished.reason]


async def test_no_stream_outlives_its_query_however_that_ends() -> None:
    servicers: list[CountsStreams] = []
    async with AsyncExitStack() as stack:
        nodes = await stack.enter_async_context(Nodes(counting(servicers)))
        slow = Line(answer="a b c d e f", seconds=0.002)
        members = {
            "a": [await nodes.start("a", slow), await nodes.start("a", slow)],
            "b": await nodes.start("b", Line(when="fail", fails="overloaded"), slow),
            "c": await nodes.start("c", Line(when="hang", hangs=True), ANSWER),
        }
        mesh = await stack.enter_async_context(open_fuser(members, quorum=1))
        await mesh.becomes_ready("a", "b", "c")
        await asyncio.gather(
            *(ended(mesh, prompt, how) for prompt in ("?", "fail", "hang") for how in range(12))
        )
        await mesh.becomes_idle()
        assert sum(one.opened for one in servicers) > 36
        await until(lambda: not any(one.open for one in servicers))


async def ended(mesh: FuserMesh, prompt: str, how: int) -> None:
    """A query that ends by itself, by its deadline or as its caller goes, after some events."""
    request = fuser_pb.GenerateRequest(raw_prompt=prompt, session_id=f"{prompt}{how}")
    seconds = 0.02 * how if how % 3 == 1 else PATIENCE_SECONDS
    call = mesh.stub.Generate(request, timeout=seconds)
    events = 0
    with suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
        async for _ in call:
            events += 1
            if how % 3 == 2 and events > how // 3:
                call.cancel()


async def test_who_says_to_have_streams_and_has_none_is_called_without() -> None:
    async with Nodes(partial(WithoutStreams, say=True)) as nodes:
        node = await nodes.start("a", ANSWER)
        async with member_of(node) as member:
            assert (await ask(member)).text == "so it"
