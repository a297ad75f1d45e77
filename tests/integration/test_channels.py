"""Channels: what they check, what they limit, how they come back."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_health.v1.health_pb2_grpc import HealthStub

from specfuse.errors import InvalidArgument, Misconfigured
from specfuse.rpc import channels, server
from specfuse.rpc.channels import open_blocking_channel, open_channel
from specfuse.rpc.errors import from_rpc_error
from specfuse.v1 import fuser_service_pb2 as pb
from specfuse.v1.fuser_service_pb2_grpc import FuserServiceStub
from tests.support.fuser_door import ScriptedFuser, open_door, script, segment


@pytest.mark.parametrize("target", ["", "  "])
def test_empty_target_is_an_error(target: str) -> None:
    for open_any in (open_channel, open_blocking_channel):
        with pytest.raises(Misconfigured, match="target: empty"):
            open_any(target)


async def test_channel_keeps_its_own_message_limit() -> None:
    fuser = ScriptedFuser(script(segment(1, "y" * 5000)))
    async with (
        open_door(fuser) as server,
        open_channel(server.address, max_message_bytes=4096) as channel,
    ):
        stub = FuserServiceStub(channel)
        for request in (pb.GenerateRequest(raw_prompt="x" * 5000), pb.GenerateRequest()):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.Generate(request).read()
            assert isinstance(from_rpc_error(caught.value), InvalidArgument)


async def test_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://192.0.2.1:1")
    async with open_door(ScriptedFuser()) as server, open_channel(server.address) as channel:
        await FuserServiceStub(channel).ListEnsembles(pb.ListEnsemblesRequest(), timeout=10)


async def test_channel_finds_a_server_that_came_back() -> None:
    async with open_door(ScriptedFuser()) as server:
        address = server.address
    async with open_channel(address) as channel:
        stub = FuserServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ListEnsembles(pb.ListEnsemblesRequest())
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        async with open_door(ScriptedFuser(), listen=address):
            await stub.ListEnsembles(pb.ListEnsemblesRequest(), wait_for_ready=True, timeout=20)


@pytest.mark.parametrize(("spread", "asked"), [(False, {0, 4}), (True, {2})])
async def test_calls_go_to_one_of_a_names_addresses_or_to_all_in_turn(
    spread: bool, asked: set[int]
) -> None:
    fusers = [ScriptedFuser(), ScriptedFuser()]
    async with open_door(fusers[0]) as one, open_door(fusers[1]) as other:
        target = f"ipv4:{one.address},{other.address}"
        async with open_channel(target, spread=spread) as channel:
            stub = FuserServiceStub(channel)
            if spread:  # both connections stand once both have been asked
                while not all(fuser.requests for fuser in fusers):
                    await stub.ListEnsembles(pb.ListEnsemblesRequest(), timeout=20)
                for fuser in fusers:
                    fuser.requests.clear()
            for _ in range(4):
                await stub.ListEnsembles(pb.ListEnsemblesRequest(), timeout=20)
    assert {len(fuser.requests) for fuser in fusers} == asked


async def test_a_silent_call_outlasts_many_keepalive_probes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server that takes probes for an attack closes the connection at the third."""
    for module in (channels, server):
        monkeypatch.setattr(module, "PROBE_SECONDS", 1)
    async with open_door(ScriptedFuser()) as door, open_channel(door.address) as channel:
        watch = HealthStub(channel).Watch(HealthCheckRequest())
        await watch.read()
        ended = asyncio.ensure_future(watch.code())
        closed, _ = await asyncio.wait([ended], timeout=6)
        assert not closed
        watch.cancel()
