"""A fuser whose ensembles change while it answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import openai
import pytest
import yaml
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from fuser_service import main as fuser_main
from fuser_service.settings.settings import Settings
from model_service.backends.scripted.settings import Line
from specfuse.errors import NotFound
from specfuse.rpc.channels import open_channel
from specfuse.rpc.errors import from_rpc_error
from specfuse.v1 import fuser_service_pb2 as pb
from specfuse.v1.fuser_service_pb2_grpc import FuserServiceStub
from tests.support.fuser_mesh import PATIENCE_SECONDS, FuserMesh, Nodes
from tests.support.openai_door import HELLO, sdk_of

PARIS = Line(answer="Paris, of course, as everybody knows")
ROME = Line(answer="Rome")
NOBODY = "127.0.0.1:1"
"""Where no member is."""
ASLEEP = {"wake_seconds": 300.0}


def write(file: Path, members: dict[str, str], **ensembles: Any) -> None:
    """Writes the settings of a fuser, with the addresses of its members."""
    document = {
        "listen": "127.0.0.1:0",
        "http": {"listen": "127.0.0.1:0"},
        "metrics_listen": "127.0.0.1:0",
        "members": {name: {"endpoints": [address]} for name, address in members.items()},
        "ensembles": ensembles,
    }
    file.write_text(yaml.safe_dump(document))


@asynccontextmanager
async def fuser_of(file: Path) -> AsyncIterator[FuserMesh]:
    """A fuser with the settings in the file."""
    fuser = await fuser_main.start(Settings.read(file), lambda: Settings.read(file))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(fuser.stop)
        channel = await stack.enter_async_context(open_channel(fuser.address))
        yield FuserMesh(fuser, FuserServiceStub(channel))


async def health_becomes(channel: grpc.aio.Channel, name: str, status: Any) -> None:
    """Returns when health says so of an ensemble."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for said in HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=name)):
            if said.status == status:
                return


async def test_new_queries_use_the_new_ensembles_and_running_ones_the_old(tmp_path: Path) -> None:
    file = tmp_path / "fuser.yaml"
    async with Nodes() as nodes:
        served = {
            "a": await nodes.start("a", PARIS, hold_from=1),
            "b": await nodes.start("b", ROME),
        }
        addresses = {name: node.address for name, node in served.items()}
        write(file, addresses, one={"members": ["a"], "segment_tokens": 2})
        mesh = await nodes.enter_async_context(fuser_of(file))
        fuser = mesh.fuser
        channel = await nodes.enter_async_context(open_channel(fuser.address))
        running = asyncio.create_task(mesh.ask(ensemble="one"))
        await served["a"].comes_to_wait()

        write(file, addresses, two={"members": ["b"]})
        fuser.reread()
        samples = {"ensemble": "two", "team": "anonymous"}
        assert await mesh.metric("specfuse_output_tokens_total", **samples) == 0.0
        assert (await mesh.ask()).text == "Rome"
        refusal = await mesh.refusal(pb.GenerateRequest(raw_prompt="?", ensemble="one"))
        assert refusal.code() is grpc.StatusCode.NOT_FOUND
        await health_becomes(channel, "one", health_pb2.HealthCheckResponse.NOT_SERVING)
        await health_becomes(channel, "two", health_pb2.HealthCheckResponse.SERVING)

        file.write_text("ensembles: {}")
        fuser.reread()
        assert (await mesh.ask(ensemble="two")).text == "Rome"

        served["a"].backend.opened.set()
        answer = await running
        assert (answer.started.ensemble, answer.text) == ("one", PARIS.answer)


async def ask_over_http(sdk: openai.AsyncOpenAI) -> None:
    await sdk.chat.completions.create(model="one", messages=HELLO)


async def stream_over_http(sdk: openai.AsyncOpenAI) -> None:
    """A stream that has begun by the time that it is to wait for long."""
    impatient = {"x-stainless-read-timeout": "0.2"}
    stream = await sdk.chat.completions.create(
        model="one", messages=HELLO, stream=True, extra_headers=impatient
    )
    [_ async for _ in stream]


async def held_for_one(mesh: FuserMesh) -> tuple[float | None, ...]:
    """What gauges tell of those who wait for the ensemble, in all and for its member."""
    return (
        await mesh.metric("specfuse_requests_waking", ensemble="one"),
        await mesh.metric("specfuse_ensemble_sessions", ensemble="one"),
        await mesh.metric("specfuse_member_sessions", model_name="a"),
    )


async def test_who_is_held_for_an_ensemble_that_is_dropped_is_told_so_at_once(
    tmp_path: Path,
) -> None:
    file = tmp_path / "fuser.yaml"
    members, two = {"a": NOBODY, "b": NOBODY}, {"members": ["b"], **ASLEEP}
    write(file, members, one={"members": ["a"], **ASLEEP}, two=two)
    asking = pb.GenerateRequest(raw_prompt="?", ensemble="one")
    async with fuser_of(file) as mesh, sdk_of(mesh.fuser.http_address) as sdk:
        over_grpc = asyncio.create_task(mesh.refusal(asking))
        over_http = asyncio.create_task(ask_over_http(sdk))
        streamed = asyncio.create_task(stream_over_http(sdk))
        await mesh.metric_becomes(3, "specfuse_requests_waking", ensemble="one")
        assert await held_for_one(mesh) == (3, 3, 3)

        write(file, members, two=two)
        mesh.fuser.reread()

        told, new = await over_grpc, await mesh.refusal(asking)
        assert told.code() is new.code() is grpc.StatusCode.NOT_FOUND
        assert told.details() == new.details() == "ensemble: there is no 'one'; there are: two"
        assert isinstance(from_rpc_error(told), NotFound)
        for asked in (over_http, ask_over_http(sdk)):
            with pytest.raises(openai.NotFoundError) as refused:
                await asked
            assert refused.value.body["code"] == "model_not_found"
        with pytest.raises(openai.APIError, match="there is no 'one'; there are: two") as last:
            await streamed
        assert last.value.body["code"] == "model_not_found"
        assert await held_for_one(mesh) == (0, 0, 0)


async def test_who_is_held_for_an_ensemble_of_other_members_by_now_is_answered_by_those(
    tmp_path: Path,
) -> None:
    file = tmp_path / "fuser.yaml"
    async with Nodes() as nodes:
        members = {"a": NOBODY, "b": (await nodes.start("b", ROME)).address}
        write(file, members, one={"members": ["a"], **ASLEEP})
        async with fuser_of(file) as mesh:
            held = asyncio.create_task(mesh.ask())
            await mesh.metric_becomes(1, "specfuse_requests_waking", ensemble="one")
            write(file, members, one={"members": ["b"], **ASLEEP})
            mesh.fuser.reread()
            answer = await held
            assert (list(answer.started.members), answer.text) == (["b"], "Rome")
            assert await held_for_one(mesh) == (0, 0, 0)
