"""A server's life: binding, health, limits, deadlines, draining, signals."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from specfuse.errors import InvalidArgument, Misconfigured
from specfuse.rpc.channels import open_channel
from specfuse.rpc.errors import from_rpc_error
from specfuse.rpc.server import deadline_of
from specfuse.serving.signals import run_until_signalled
from specfuse.v1 import fuser_service_pb2 as pb
from specfuse.v1.fuser_service_pb2_grpc import FuserServiceStub
from tests.support.fuser_door import (
    FUSER,
    ScriptedFuser,
    door,
    finished,
    open_door,
    script,
    segment,
)
from tests.support.link import Link

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Held(ScriptedFuser):
    """A fuser whose answers stop after a segment until they are released."""

    def __init__(self) -> None:
        super().__init__(self.answer)
        self.reached = asyncio.Event()
        self.release = asyncio.Event()
        self.left = asyncio.Event()

    async def answer(self, request, context) -> AsyncIterator[pb.GenerateResponse]:
        try:
            yield segment(1, "one")
            self.reached.set()
            await self.release.wait()
            yield finished()
        finally:
            self.left.set()


async def broken(answer: grpc.aio.UnaryStreamCall) -> None:
    """Reads the segment a held answer gave, and the error it then broke off with."""
    assert (await answer.read()).segment_committed.segment == "one"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answer.read()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def health_of(channel: grpc.aio.Channel, service: str = "") -> int:
    request = health_pb2.HealthCheckRequest(service=service)
    return (await HealthStub(channel).Check(request, timeout=10)).status


async def test_port_zero_takes_a_free_port_and_says_which() -> None:
    server = door(ScriptedFuser())
    assert server.address == ""
    await server.start()
    try:
        host, _, port = server.address.partition(":")
        assert host == "127.0.0.1"
        assert int(port) > 0
        async with open_channel(server.address) as channel:
            await FuserServiceStub(channel).ListEnsembles(pb.ListEnsemblesRequest())
    finally:
        await server.stop()


async def test_port_in_use_is_an_error_that_names_it() -> None:
    async with open_door(ScriptedFuser()) as server:
        with pytest.raises(Misconfigured, match=f"listen: cannot bind {server.address}"):
            await door(ScriptedFuser(), listen=server.address).start()


@pytest.mark.parametrize(
    "listen",
    ["", "50051", ":50051", "localhost", "localhost:", "localhost:http", "h:65536", "h:-1"],
)
async def test_malformed_address_is_an_error_that_names_it(listen: str) -> None:
    with pytest.raises(Misconfigured, match="is not host:port") as caught:
        await door(ScriptedFuser(), listen=listen).start()
    assert repr(listen) in caught.value.message


async def test_address_of_another_machine_is_an_error() -> None:
    with pytest.raises(Misconfigured, match=r"cannot bind 192\.0\.2\.1:0"):
        await door(ScriptedFuser(), listen="192.0.2.1:0").start()


async def test_health_is_overall_and_per_service() -> None:
    async with open_door(ScriptedFuser()) as server, open_channel(server.address) as channel:
        assert await health_of(channel) == SERVING
        assert await health_of(channel, FUSER) == SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health_of(channel, "specfuse.v1.NoSuchService")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_reflection_lists_the_services() -> None:
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    async with open_door(ScriptedFuser()) as server, open_channel(server.address) as channel:
        call = ServerReflectionStub(channel).ServerReflectionInfo(iter([request]))
        answer = await call.read()
    names = {service.name for service in answer.list_services_response.service}
    assert names >= {FUSER, "grpc.health.v1.Health"}


async def test_message_over_the_limit_fails_alone() -> None:
    fuser = ScriptedFuser(script(segment(1, "y" * 5000)))
    running = open_door(fuser, max_message_bytes=4096)
    async with running as server, open_channel(server.address) as channel:
        stub = FuserServiceStub(channel)
        for request in (pb.GenerateRequest(raw_prompt="x" * 5000), pb.GenerateRequest()):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.Generate(request).read()
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            error = from_rpc_error(caught.value)
            assert isinstance(error, InvalidArgument), "a retry would not help"
            assert "4096" in error.message
        await stub.ListEnsembles(pb.ListEnsemblesRequest())


async def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specfuse.rpc.server.MAX_CONNECTIONS", 3)
    async with open_door(ScriptedFuser()) as server:
        host, _, port = server.address.rpartition(":")
        opened = [await asyncio.open_connection(host, int(port)) for _ in range(6)]
        greetings = [await reader.read(1) for reader, _ in opened]
        assert sum(map(bool, greetings)) == 3, "the others are closed without a word"
        for _, writer in opened:
            writer.close()
        async with asyncio.timeout(20), open_channel(server.address) as channel:
            stub = FuserServiceStub(channel)
            await stub.ListEnsembles(pb.ListEnsemblesRequest(), wait_for_ready=True)


async def test_connections_are_replaced_when_they_are_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("specfuse.rpc.server._AGE_SECONDS", 1)
    async with (
        asyncio.timeout(30),
        open_door(ScriptedFuser()) as server,
        Link(server.address) as link,
        open_channel(link.address) as channel,
    ):
        stub = FuserServiceStub(channel)
        while link.accepted < 2:
            await stub.ListEnsembles(pb.ListEnsemblesRequest())


async def test_deadline_is_the_callers() -> None:
    deadlines = []

    async def list_ensembles(request, context):
        deadlines.append(deadline_of(context))
        return pb.ListEnsemblesResponse()

    fuser = ScriptedFuser(list_ensembles=list_ensembles)
    async with open_door(fuser) as server, open_channel(server.address) as channel:
        stub = FuserServiceStub(channel)
        await stub.ListEnsembles(pb.ListEnsemblesRequest(), timeout=30)
        await stub.ListEnsembles(pb.ListEnsemblesRequest())
    timed, untimed = deadlines
    assert 0 < timed.remaining < 31, "gRPC rounds what it sends up"
    assert untimed.timeout is None


async def test_caller_that_goes_away_ends_the_work() -> None:
    fuser = Held()
    async with open_door(fuser) as server, open_channel(server.address) as channel:
        call = FuserServiceStub(channel).Generate(pb.GenerateRequest())
        await fuser.reached.wait()
        assert server.calls_in_flight == 1
        call.cancel()
        await fuser.left.wait()


async def test_drain_finishes_what_is_in_flight_and_refuses_what_is_new() -> None:
    fuser = Held()
    async with open_door(fuser) as server, open_channel(server.address) as channel:
        watch = HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        answer = FuserServiceStub(channel).Generate(pb.GenerateRequest())
        assert (await answer.read()).segment_committed.segment == "one"
        await fuser.reached.wait()

        draining = asyncio.create_task(server.drain(60))
        assert (await watch.read()).status == NOT_SERVING, "health flips first"
        async with open_channel(server.address) as late:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await FuserServiceStub(late).ListEnsembles(pb.ListEnsemblesRequest())
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert not draining.done()

        fuser.release.set()
        assert (await answer.read()).HasField("finished")
        assert await answer.code() is grpc.StatusCode.OK
        # The health watcher does not hold up the drain.
        await asyncio.wait_for(draining, timeout=3)
        assert await watch.code() is grpc.StatusCode.UNAVAILABLE
        assert server.calls_in_flight == 0


async def test_drain_does_not_lose_the_response_of_a_call_that_just_ends() -> None:
    release = asyncio.Event()
    reached = asyncio.Semaphore(0)

    async def list_ensembles(request, context):
        reached.release()
        await release.wait()
        return pb.ListEnsemblesResponse(ensembles=[pb.Ensemble(name="x" * 100_000)])

    fuser = ScriptedFuser(list_ensembles=list_ensembles)
    for _ in range(10):
        release.clear()
        async with open_door(fuser) as server, open_channel(server.address) as channel:
            stub = FuserServiceStub(channel)
            calls = [stub.ListEnsembles(pb.ListEnsemblesRequest()) for _ in range(5)]
            for _ in calls:
                await reached.acquire()
            draining = asyncio.create_task(server.drain(60))
            release.set()
            assert [len((await call).ensembles) for call in calls] == [1] * 5
            await draining


async def test_drain_cancels_what_outlasts_the_grace() -> None:
    fuser = Held()
    async with open_door(fuser) as server, open_channel(server.address) as channel:
        answer = FuserServiceStub(channel).Generate(pb.GenerateRequest())
        await fuser.reached.wait()
        await server.drain(0.05)
        assert fuser.left.is_set(), "the handler has unwound when the drain returns"
        await broken(answer)


async def test_cancelled_drain_stops_at_once() -> None:
    fuser = Held()
    async with open_door(fuser) as server, open_channel(server.address) as channel:
        answer = FuserServiceStub(channel).Generate(pb.GenerateRequest())
        await fuser.reached.wait()
        draining = asyncio.create_task(server.drain(3600))
        await asyncio.wait({draining}, timeout=0.05)
        draining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await draining
        assert fuser.left.is_set()
        await broken(answer)


async def test_a_server_is_quiet_once_no_call_was_served_for_so_long() -> None:
    fuser = Held()
    async with open_door(fuser) as server, open_channel(server.address) as channel:
        await server.quiet(0.01)
        stub = FuserServiceStub(channel)
        answer = stub.Generate(pb.GenerateRequest())
        await fuser.reached.wait()
        quiet = asyncio.create_task(server.quiet(0.01))
        await asyncio.wait({quiet}, timeout=0.1)
        assert not quiet.done(), "a call is being served"
        fuser.release.set()
        assert [one async for one in answer]
        await quiet


async def test_every_call_that_comes_makes_a_server_be_quiet_from_its_end_on() -> None:
    seconds = 0.2
    async with open_door(ScriptedFuser()) as server, open_channel(server.address) as channel:
        stub = FuserServiceStub(channel)
        quiet = asyncio.create_task(server.quiet(seconds))
        began = ended = time.monotonic()
        longest = 0.0  # between the ends of two calls, which is more than nobody called for
        while ended < began + 3 * seconds and not quiet.done():
            await stub.ListEnsembles(pb.ListEnsemblesRequest())
            before, ended = ended, time.monotonic()
            longest = max(longest, ended - before)
        assert quiet.done() <= (longest >= seconds)
        await health_of(channel)
        await quiet


async def test_stopping_twice_or_unstarted_does_nothing() -> None:
    server = door(ScriptedFuser())
    await server.stop()
    server = door(ScriptedFuser())
    await server.start()
    await asyncio.gather(server.stop(), server.drain(1), server.stop())
    await server.stop()


async def test_a_stopped_servers_port_is_free_again() -> None:
    async with open_door(ScriptedFuser()) as server:
        address = server.address
    async with open_door(ScriptedFuser(), listen=address):
        pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_drains(number: signal.Signals) -> None:
    drained = asyncio.Event()

    async def drain() -> None:
        drained.set()

    running = asyncio.create_task(run_until_signalled(drain))
    await ready_for_signals()
    assert not drained.is_set()
    os.kill(os.getpid(), number)
    await running
    assert drained.is_set()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, "as it was before"


async def test_second_signal_cancels_the_drain() -> None:
    draining, unwound = asyncio.Event(), asyncio.Event()

    async def drain() -> None:
        try:
            draining.set()
            await asyncio.Event().wait()
        finally:
            unwound.set()

    running = asyncio.create_task(run_until_signalled(drain))
    await ready_for_signals()
    os.kill(os.getpid(), signal.SIGTERM)
    await draining.wait()
    os.kill(os.getpid(), signal.SIGINT)
    await running
    assert unwound.is_set()


async def test_every_further_signal_ends_the_stage_that_runs_and_begins_the_next() -> None:
    reached: asyncio.Queue[str] = asyncio.Queue()

    def stage(name: str, *, lasts: bool = True):
        async def run() -> None:
            reached.put_nowait(name)
            if lasts:
                await asyncio.Event().wait()

        return run

    stages = stage("one"), stage("two", lasts=False), stage("three")
    running = asyncio.create_task(run_until_signalled(*stages))
    await ready_for_signals()
    os.kill(os.getpid(), signal.SIGTERM)
    assert await reached.get() == "one"
    assert reached.empty()
    os.kill(os.getpid(), signal.SIGTERM)
    assert [await reached.get(), await reached.get()] == ["two", "three"]
    assert not running.done()
    os.kill(os.getpid(), signal.SIGTERM)
    await running


async def test_failure_of_the_drain_is_raised() -> None:
    async def drain() -> None:
        raise OSError("the disk is gone")

    running = asyncio.create_task(run_until_signalled(drain))
    await ready_for_signals()
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(OSError, match="the disk is gone"):
        await running


async def test_cancelled_wait_drains_nothing_and_restores_the_signals() -> None:
    async def drain() -> None:
        pytest.fail("drained")

    running = asyncio.create_task(run_until_signalled(drain))
    await ready_for_signals()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


async def ready_for_signals() -> None:
    """Returns once the waiter has installed its handlers, which its first step does."""
    await asyncio.sleep(0)
    assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
