"""A service with several doors: opened together, drained together."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from prometheus_client import CollectorRegistry

from specfuse.errors import Internal, Misconfigured, Unauthenticated
from specfuse.observability.metrics_endpoint import MetricsEndpoint
from specfuse.rpc.channels import open_channel
from specfuse.rpc.errors import from_rpc_error
from specfuse.serving.doors import Door
from specfuse.serving.ending import Ending
from specfuse.serving.running import GRPC, RunningService, open_metrics
from specfuse.serving.signals import on_hangup
from specfuse.v1 import fuser_service_pb2 as pb
from specfuse.v1.fuser_service_pb2_grpc import FuserServiceStub
from tests.support.fuser_door import ScriptedFuser, door, finished, open_door, script, segment


@dataclass
class LaggingDoor:
    """A door of another transport, whose drain takes until it is let go."""

    history: list[str] = field(default_factory=list)
    broken: bool = False
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    let_go: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def address(self) -> str:
        return "127.0.0.1:1"

    async def start(self) -> None:
        if self.broken:
            raise Misconfigured("http_listen: cannot bind")
        self.history.append("started")

    async def drain(self, grace_seconds: float) -> None:
        self.draining.set()
        if grace_seconds:
            await self.let_go.wait()
        self.history.append(f"drained in {grace_seconds:g} s")


@asynccontextmanager
async def running(doors: dict[str, Door]) -> AsyncIterator[tuple[RunningService, list[str]]]:
    """A service with these doors, and what was closed after them."""
    closed: list[str] = []
    async with AsyncExitStack() as rest:
        endpoint: MetricsEndpoint = await open_metrics("127.0.0.1:0", CollectorRegistry(), rest)
        rest.callback(closed.append, "backend")
        service = await RunningService.start(doors, endpoint, Ending(30.0), lambda: None, rest)
    try:
        yield service, closed
    finally:
        await service.stop()


async def answers(address: str) -> bool:
    """Whether a fuser answers at the address."""
    async with open_channel(address) as channel:
        try:
            await FuserServiceStub(channel).ListEnsembles(pb.ListEnsemblesRequest(), timeout=5)
        except grpc.aio.AioRpcError:
            return False
    return True


async def test_what_is_behind_the_doors_outlives_every_one_of_them() -> None:
    other = LaggingDoor()
    async with running({GRPC: door(ScriptedFuser()), "other": other}) as (service, closed):
        assert await answers(service.address)
        draining = asyncio.create_task(service.drain())
        await other.draining.wait()
        assert not closed
        other.let_go.set()
        await draining
        assert closed == ["backend"]
        assert other.history[:2] == ["started", "drained in 30 s"]
        assert not await answers(service.address)


async def test_a_door_that_cannot_be_opened_closes_those_that_were() -> None:
    first = door(ScriptedFuser())
    with pytest.raises(Misconfigured, match="http_listen"):
        async with running({GRPC: first, "other": LaggingDoor(broken=True)}):
            pass
    assert not await answers(first.address)


class Refusing(grpc.aio.ServerInterceptor):
    """Asks every caller for a key."""

    async def intercept_service(self, continuation, handler_call_details):
        keys = dict(handler_call_details.invocation_metadata)
        if keys.get("x-key") != "open":
            raise Unauthenticated("x-key: is missing or wrong")
        return await continuation(handler_call_details)


def with_key(details):
    """The call's details with the key."""
    return details._replace(metadata=grpc.aio.Metadata(("x-key", "open")))


class UnaryWithKey(grpc.aio.UnaryUnaryClientInterceptor):
    """Adds the key to a unary call."""

    async def intercept_unary_unary(self, continuation, details, request):
        return await continuation(with_key(details), request)


class StreamWithKey(grpc.aio.UnaryStreamClientInterceptor):
    """Adds the key to a call that streams its answer."""

    async def intercept_unary_stream(self, continuation, details, request):
        return await continuation(with_key(details), request)


async def test_servers_and_channels_take_interceptors() -> None:
    fuser = ScriptedFuser(script(segment(1, "one"), finished()))
    async with open_door(fuser, interceptors=[Refusing()]) as server:
        keys = [UnaryWithKey(), StreamWithKey()]
        async with open_channel(server.address, interceptors=keys) as channel:
            stub = FuserServiceStub(channel)
            await stub.ListEnsembles(pb.ListEnsemblesRequest())
            answer = [one async for one in stub.Generate(pb.GenerateRequest())]
            assert len(answer) == 2
        async with open_channel(server.address) as channel:
            health = HealthStub(channel)
            assert (await health.Check(health_pb2.HealthCheckRequest())).status, "without a key"
            stub = FuserServiceStub(channel)
            for refused in (
                stub.ListEnsembles(pb.ListEnsemblesRequest()),
                stub.Generate(pb.GenerateRequest()).read(),
            ):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await refused
                assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
                assert isinstance(from_rpc_error(caught.value), Unauthenticated)


class Broken(grpc.aio.ServerInterceptor):
    """Fails in a way that nobody foresaw."""

    async def intercept_service(self, continuation, handler_call_details):
        raise KeyError("a secret prompt")


async def test_what_an_interceptor_did_not_foresee_is_reported_as_a_servicers_is() -> None:
    broken = open_door(ScriptedFuser(), interceptors=[Broken()])
    async with broken as server, open_channel(server.address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await FuserServiceStub(channel).ListEnsembles(pb.ListEnsemblesRequest())
    error = from_rpc_error(caught.value)
    assert isinstance(error, Internal)
    assert "secret" not in error.message
    assert error.metadata["correlation_id"]


@pytest.fixture
def hangups_as_before() -> Iterator[None]:
    """Puts back what SIGHUP did."""
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hangups_as_before")
async def test_every_hangup_has_the_files_read_again_and_none_ends_the_process() -> None:
    hangups: asyncio.Queue[None] = asyncio.Queue()
    with on_hangup(lambda: hangups.put_nowait(None)):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGHUP)
            await asyncio.wait_for(hangups.get(), 10)
    os.kill(os.getpid(), signal.SIGHUP)
    assert hangups.empty()
