"""Members that are not there until somebody asks: held queries over real gRPC and HTTP."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import openai
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from model_service.backends.scripted.settings import Line
from specfuse.client import AsyncClient
from specfuse.errors import Overloaded, QuorumLost, Unavailable
from specfuse.rpc.channels import open_channel
from specfuse.rpc.errors import from_rpc_error
from specfuse.v1 import fuser_service_pb2 as pb
from tests.support.fuser_mesh import PATIENCE_SECONDS, FuserMesh, Node, Nodes, open_fuser
from tests.support.http_caller import answer_to
from tests.support.openai_door import HELLO, sdk_of

ANSWER = "The capital of France is Paris."
PATIENT = {"wake_seconds": 300.0, "wake_grace_seconds": 300.0}
NOBODY = {"a": 0.0, "b": 0.0, "c": 0.0}
SERVING = health_pb2.HealthCheckResponse.SERVING
ASKING = pb.GenerateRequest(raw_prompt="?")


@dataclass
class Sleeping:
    """A fuser whose three members are at addresses where nobody is yet."""

    mesh: FuserMesh
    nodes: Nodes
    addresses: dict[str, str]

    async def wake(self, *names: str) -> list[Node]:
        """Starts members."""
        line = Line(answer=ANSWER)
        return [await self.nodes.start(m, line, listen=self.addresses[m]) for m in names]

    async def sessions(self) -> dict[str, float | None]:
        """What a scaler is told of each member."""
        name = "specfuse_member_sessions"
        return {member: await self.mesh.metric(name, model_name=member) for member in NOBODY}

    async def held(self) -> float | None:
        """How many queries wait."""
        return await self.mesh.metric("specfuse_requests_waking", ensemble="all")

    async def comes_to(self, held: int) -> None:
        """Returns when so many queries wait."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await self.held() != held:  # noqa: ASYNC110 (behind a socket)
                await asyncio.sleep(0.02)


@asynccontextmanager
async def sleeping(
    *, top: dict[str, Any] | None = None, **ensemble: Any
) -> AsyncIterator[Sleeping]:
    """Three members that sleep; a quorum is two."""
    top = {"http": {"listen": "127.0.0.1:0"}, **(top or {})}
    async with AsyncExitStack() as stack:
        addresses = {name: stack.enter_context(_address_to_be()) for name in NOBODY}
        members = {name: {"endpoints": [address]} for name, address in addresses.items()}
        nodes = await stack.enter_async_context(Nodes())
        settings = {"quorum": 2, **(ensemble or PATIENT)}
        mesh = await stack.enter_async_context(open_fuser(members, top=top, **settings))
        yield Sleeping(mesh, nodes, addresses)


@contextmanager
def _address_to_be() -> Iterator[str]:
    """An address where nobody listens before a test does. No connection gets its port instead."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # so that others can listen
        held.bind(("127.0.0.1", 0))
        host, port = held.getsockname()
        yield f"{host}:{port}"


async def test_a_query_wakes_all_members_and_is_answered_by_all() -> None:
    async with sleeping() as asleep:
        assert (await asleep.held(), await asleep.sessions()) == (0, NOBODY)
        asked = asyncio.create_task(asleep.mesh.ask())
        await asleep.comes_to(1)
        assert await asleep.sessions() == {"a": 1, "b": 1, "c": 1}
        await asleep.wake("a", "b")
        await asleep.mesh.becomes_ready("a", "b")
        assert await asleep.held() == 1, "c is about to wake as well"
        await asleep.wake("c")
        answer = await asked
        assert (answer.text, answer.finished.degraded) == (ANSWER, False)
        assert (await asleep.held(), await asleep.sessions()) == (0, NOBODY)


async def test_after_the_grace_a_quorum_answers_and_counts_on_who_is_not_there_yet() -> None:
    async with sleeping(wake_seconds=300.0, wake_grace_seconds=0.1, segment_tokens=2) as asleep:
        asked = asyncio.create_task(asleep.mesh.ask())
        await asleep.comes_to(1)
        (a, b) = await asleep.wake("a", "b")
        a.backend.hold_from = b.backend.hold_from = 1
        await b.comes_to_wait()  # it opens
        assert await asleep.held() == 0
        assert await asleep.sessions() == {"a": 1, "b": 1, "c": 1}
        a.backend.opened.set()
        b.backend.opened.set()
        answer = await asked
        assert (answer.text, [one.member for one in answer.finished.lost]) == (ANSWER, ["c"])


async def test_a_query_held_is_bounded_in_time_and_says_when_to_ask_again() -> None:
    async with sleeping(wake_seconds=0.1, wake_grace_seconds=0.0) as asleep:
        refused = await asleep.mesh.refusal(ASKING)
        error = from_rpc_error(refused)
        assert type(error) is Unavailable
        assert "0 of 3 members are awake after 0.1 s" in error.message
        assert error.retry_after_seconds == retry_info(refused).retry_delay.seconds == 5
        await asleep.wake("a")
        await asleep.mesh.becomes_ready("a")
        error = from_rpc_error(await asleep.mesh.refusal(ASKING))
        assert "1 of 3 members are awake" in error.message
        async with AsyncClient(asleep.mesh.fuser.address) as client:
            with pytest.raises(Unavailable):  # it would ask again later than it has time
                await client.generate("?", timeout=3.0)


def retry_info(error: grpc.aio.AioRpcError) -> error_details_pb2.RetryInfo:
    details = dict(error.trailing_metadata())["grpc-status-details-bin"]
    info = error_details_pb2.RetryInfo()
    assert any(one.Unpack(info) for one in status_pb2.Status.FromString(details).details)
    return info


async def test_no_more_are_held_than_could_be_answered_and_none_of_a_caller_that_is_gone() -> None:
    limits = {"requests_in_flight": 2}
    async with sleeping(top={"limits": limits}) as asleep:
        calls = [asleep.mesh.stub.Generate(ASKING) for _ in range(2)]
        await asleep.comes_to(2)
        assert isinstance(from_rpc_error(await asleep.mesh.refusal(ASKING)), Overloaded)
        calls[0].cancel()
        await asleep.comes_to(1)
        assert await asleep.sessions() == {"a": 1, "b": 1, "c": 1}
        calls[1].cancel()
        await asleep.comes_to(0)
        assert await asleep.sessions() == NOBODY


async def test_a_fuser_that_ends_sends_who_is_held_elsewhere_at_once() -> None:
    async with sleeping(top={"drain_seconds": 3600.0}) as asleep:
        refusal = asyncio.create_task(asleep.mesh.refusal(ASKING, seconds=None))
        async with sdk_of(asleep.mesh.fuser.http_address) as sdk:
            over_http = asyncio.create_task(
                sdk.chat.completions.create(model="all", messages=HELLO)
            )
            await asleep.comes_to(2)
            async with asyncio.timeout(PATIENCE_SECONDS):
                await asleep.mesh.fuser.drain()
            assert isinstance(from_rpc_error(await refusal), Unavailable)
            with pytest.raises(openai.InternalServerError, match="0 of 3 members are awake"):
                await over_http


async def test_queries_that_are_held_take_no_place_of_those_that_can_be_answered() -> None:
    ensembles = {"all": {"members": ["a", "b"], **PATIENT}, "awake": {"members": ["c"]}}
    top = {"limits": {"requests_in_flight": 1}, "ensembles": ensembles}
    async with sleeping(top=top) as asleep:
        await asleep.wake("c")
        await asleep.mesh.becomes_ready("c")
        held = asyncio.create_task(asleep.mesh.ask(ensemble="all"))
        await asleep.comes_to(1)
        assert (await asleep.mesh.ask(ensemble="awake")).text == ANSWER
        await asleep.wake("a", "b")
        assert (await held).text == ANSWER


async def streamed(sdk: openai.AsyncOpenAI) -> openai.AsyncStream[Any]:
    """A stream that may be silent for a tenth of a second."""
    impatient = {"x-stainless-read-timeout": "0.2"}
    return await sdk.chat.completions.create(
        model="all", messages=HELLO, stream=True, extra_headers=impatient
    )


async def test_over_http_a_stream_that_is_held_is_kept_alive_and_then_answered() -> None:
    async with sleeping() as asleep, sdk_of(asleep.mesh.fuser.http_address) as sdk:
        stream = await streamed(sdk)
        assert await asleep.held() == 1, "it has begun, to be kept alive"
        await asleep.wake("a", "b", "c")
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        assert text == ANSWER


async def test_over_http_who_waits_too_long_is_told_when_to_ask_again() -> None:
    async with sleeping(wake_seconds=0.4, wake_grace_seconds=0.0) as asleep:
        address = asleep.mesh.fuser.http_address
        async with sdk_of(address) as sdk:
            with pytest.raises(openai.InternalServerError) as caught:
                await sdk.chat.completions.create(model="all", messages=HELLO)
            assert caught.value.status_code == 503
            assert caught.value.response.headers["retry-after"] == "5"
            assert caught.value.body["specfuse"] == {"retry_after_seconds": 5}
        async with sdk_of(address) as sdk:
            stream = await streamed(sdk)
            with pytest.raises(openai.APIError, match="0 of 3 members are awake") as told:
                [_ async for _ in stream]
            assert told.value.body["specfuse"] == {"retry_after_seconds": 5}


async def test_an_ensemble_that_sleeps_can_be_asked_for_all_that_probes_are_told() -> None:
    ensembles = {
        "all": {"members": ["a", "b"], **PATIENT},
        "strict": {"members": ["a", "b"]},
    }
    async with (
        sleeping(top={"ensembles": ensembles}) as asleep,
        open_channel(asleep.mesh.fuser.address) as channel,
    ):
        health = HealthStub(channel)
        said = {}
        for name in ("", "all", "strict"):
            watch = health.Watch(health_pb2.HealthCheckRequest(service=name))
            async for response in watch:
                if response.status != health_pb2.HealthCheckResponse.SERVICE_UNKNOWN:
                    said[name] = response.status == SERVING
                    break
        assert said == {"": True, "all": True, "strict": False}
        listed = await asleep.mesh.stub.ListEnsembles(pb.ListEnsemblesRequest())
        assert [list(one.ready_members) for one in listed.ensembles] == [[], []]
        status, body = await readiness(asleep.mesh.fuser.http_address)
        assert (status, body["ensembles"]) == (200, {"all": True, "strict": False})


async def readiness(address: str) -> tuple[int, Any]:
    request = b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    answer = await answer_to(address, request)
    return answer.status, json.loads(answer.body)


async def test_an_ensemble_that_falls_asleep_again_is_woken_again() -> None:
    async with sleeping() as asleep:
        nodes = await asleep.wake("a", "b", "c")
        assert (await asleep.mesh.ask()).text == ANSWER
        for node in nodes:
            await node.kill()
        await asleep.mesh.becomes_ready()
        asked = asyncio.create_task(asleep.mesh.ask())
        await asleep.comes_to(1)
        await asleep.wake("a", "b", "c")
        assert (await asked).text == ANSWER


async def test_without_wake_seconds_nobody_waits() -> None:
    async with sleeping(quorum=2) as asleep:
        error = from_rpc_error(await asleep.mesh.refusal(ASKING))
        assert isinstance(error, QuorumLost)
        assert await asleep.sessions() == NOBODY
