"""A fuser whose ensembles change while it answers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import yaml
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from fuser_service import main as fuser_main
from fuser_service.settings.settings import Settings
from model_service.backends.scripted.settings import Line
from specfuse.rpc.channels import open_channel
from specfuse.v1 import fuser_service_pb2 as pb
from specfuse.v1.fuser_service_pb2_grpc import FuserServiceStub
from tests.support.fuser_mesh import PATIENCE_SECONDS, FuserMesh, Node, Nodes

PARIS = Line(answer="Paris, of course, as everybody knows")
ROME = Line(answer="Rome")


def write(file: Path, nodes: dict[str, Node], **ensembles: Any) -> None:
    """Writes the settings of a fuser."""
    document = {
        "listen": "127.0.0.1:0",
        "metrics_listen": "127.0.0.1:0",
        "members": {name: {"endpoints": [node.address]} for name, node in nodes.items()},
        "ensembles": ensembles,
    }
    file.write_text(yaml.safe_dump(document))


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
        write(file, served, one={"members": ["a"], "segment_tokens": 2})
        fuser = await fuser_main.start(Settings.read(file), lambda: Settings.read(file))
        nodes.push_async_callback(fuser.stop)
        channel = await nodes.enter_async_context(open_channel(fuser.address))
        mesh = FuserMesh(fuser, FuserServiceStub(channel))
        running = asyncio.create_task(mesh.ask(ensemble="one"))
        await served["a"].comes_to_wait()

        write(file, served, two={"members": ["b"]})
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
