"""A fuser service over scripted members, each a real gRPC server, all in this process."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from fuser_service import main as fuser_main
from fuser_service.settings.settings import Settings
from model_service.backends.scripted.backend import ScriptedBackend
from model_service.backends.scripted.settings import Line, ScriptedSection
from model_service.core.types import (
    Context,
    ModelDescription,
    Proposal,
    ProposeRequest,
    ScoreRequest,
    Scores,
)
from model_service.doors.grpc.servicer import ModelServicer, rpc_service
from model_service.metrics import ModelMetrics
from model_service.service import ModelService
from model_service.settings import Limits
from specfuse.deadline import Deadline
from specfuse.rpc.channels import open_channel
from specfuse.rpc.server import RpcServer
from specfuse.serving.running import RunningService
from specfuse.v1 import fuser_service_pb2 as pb
from specfuse.v1 import model_service_pb2 as model_pb
from specfuse.v1.fuser_service_pb2_grpc import FuserServiceStub

PATIENCE_SECONDS = 20.0
"""How long a test waits for what must happen."""


@dataclass
class GatedBackend:
    """A scripted backend that holds calls at a gate.

    Calls whose context has at least `hold_from` segments wait until `opened` is set (None holds
    nothing). It says that it is of `revision`, unless that is None. `held` and `cancelled` are
    acquired once per call that came to wait, or was cancelled.
    """

    script: ScriptedBackend
    hold_from: int | None = None
    revision: str | None = None
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    held: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    cancelled: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    deadlines: list[Deadline] = field(default_factory=list)
    sessions: list[str] = field(default_factory=list)

    @property
    def model(self) -> ModelDescription:
        if self.revision is None:
            return self.script.model
        return replace(self.script.model, revision=self.revision)

    async def propose(self, request: ProposeRequest, deadline: Deadline) -> Proposal:
        await self._gate(request.context, deadline)
        return await self.script.propose(request, deadline)

    async def score(self, request: ScoreRequest, deadline: Deadline) -> Scores:
        await self._gate(request.context, deadline)
        return await self.script.score(request, deadline)

    async def close(self) -> None:
        await self.script.close()

    async def _gate(self, context: Context, deadline: Deadline) -> None:
        self.deadlines.append(deadline)
        self.sessions.append(context.session_id)
        if self.hold_from is None or len(context.committed) < self.hold_from:
            return
        self.held.release()
        try:
            await self.opened.wait()
        except asyncio.CancelledError:
            self.cancelled.release()
            raise


@dataclass
class Node:
    """One replica of a member."""

    backend: GatedBackend
    server: RpcServer

    @property
    def address(self) -> str:
        return self.server.address

    async def comes_to_wait(self) -> None:
        """Returns when a call has come to wait at the gate."""
        await asyncio.wait_for(self.backend.held.acquire(), PATIENCE_SECONDS)

    async def is_cancelled(self) -> None:
        """Returns when a call that waited was cancelled."""
        await asyncio.wait_for(self.backend.cancelled.acquire(), PATIENCE_SECONDS)

    async def kill(self) -> None:
        """Ends the server at once, cutting its connections."""
        await self.server.stop()


class WithoutStreams(ModelServicer):
    """A servicer of before there were streams of calls; it may still `say` that it has them."""

    def __init__(self, service: ModelService, *, say: bool = False) -> None:
        super().__init__(service)
        self._say = say

    async def GetModel(self, request: Any, context: Any) -> model_pb.GetModelResponse:  # noqa: N802
        model = await super().GetModel(request, context)
        model.capabilities.streamed_calls = self._say
        return model

    async def StreamCalls(self, requests: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
        yield


class Nodes(AsyncExitStack):
    """Starts nodes, and ends them when it is left."""

    def __init__(self, servicer: Callable[[ModelService], ModelServicer] = ModelServicer) -> None:
        super().__init__()
        self._servicer = servicer

    async def start(
        self,
        name: str,
        *lines: Line,
        hold_from: int | None = None,
        revision: str | None = None,
        context_window: int = 4096,
        **server: Any,
    ) -> Node:
        """A served scripted model; `server` goes to its RpcServer."""
        metrics = ModelMetrics(name, CollectorRegistry())
        script = ScriptedSection(lines=lines, context_window=context_window)
        backend = GatedBackend(ScriptedBackend(name, script, metrics), hold_from, revision)
        service = ModelService(backend, Limits(), metrics)
        door = replace(rpc_service(service), servicer=self._servicer(service))
        node = Node(backend, RpcServer([door], **server))
        await self.enter_async_context(node.server)
        return node


@dataclass
class FuserMesh:
    """A running fuser service, and the stub to call it by."""

    fuser: RunningService
    stub: FuserServiceStub

    async def ask(
        self, prompt: str = "?", *, seconds: float | None = PATIENCE_SECONDS, **fields: Any
    ) -> Answer:
        """The whole answer to a raw prompt."""
        call = self.stub.Generate(pb.GenerateRequest(raw_prompt=prompt, **fields), timeout=seconds)
        return Answer([response async for response in call])

    async def refusal(
        self, request: pb.GenerateRequest, *, seconds: float | None = PATIENCE_SECONDS
    ) -> grpc.aio.AioRpcError:
        """The error that a request ends in."""
        try:
            async for _ in self.stub.Generate(request, timeout=seconds):
                pass
        except grpc.aio.AioRpcError as error:
            return error
        raise AssertionError("the request was answered")

    async def ready_members(self) -> list[str]:
        """The members that can be reached, of all ensembles."""
        response = await self.stub.ListEnsembles(pb.ListEnsemblesRequest())
        return [member for ensemble in response.ensembles for member in ensemble.ready_members]

    async def becomes_ready(self, *members: str) -> None:
        """Returns when just these members can be reached."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await self.ready_members() != list(members):  # noqa: ASYNC110 (behind a socket)
                await asyncio.sleep(0.02)

    async def becomes_idle(self) -> None:
        """Returns when no request is in flight."""
        await self.metric_becomes(0, "specfuse_requests_in_flight")

    async def metric_becomes(self, value: float, name: str, **labels: str) -> None:
        """Returns when a sample of /metrics has this value."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await self.metric(name, **labels) != value:  # noqa: ASYNC110 (as above)
                await asyncio.sleep(0.02)

    async def metric(self, name: str, **labels: str) -> float | None:
        """The value of a sample that /metrics has now."""
        url = f"http://{self.fuser.metrics_address}/metrics"
        text = await asyncio.to_thread(lambda: urllib.request.urlopen(url).read().decode())
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return sample.value
        return None


@dataclass
class Answer:
    """The responses of a completed stream."""

    responses: list[pb.GenerateResponse]

    @property
    def started(self) -> pb.Started:
        assert self.responses[0].WhichOneof("event") == "started"
        return self.responses[0].started

    @property
    def rounds(self) -> list[pb.SegmentCommitted]:
        return [response.segment_committed for response in self.responses[1:-1]]

    @property
    def finished(self) -> pb.Finished:
        assert self.responses[-1].WhichOneof("event") == "finished"
        return self.responses[-1].finished

    @property
    def text(self) -> str:
        return "".join(one.text for one in self.rounds) + self.finished.text


@asynccontextmanager
async def open_fuser(
    members: Mapping[str, Any],
    *,
    top: Mapping[str, Any] | None = None,
    channel: grpc.aio.Channel | None = None,
    **ensemble: Any,
) -> AsyncIterator[FuserMesh]:
    """A fuser with one ensemble, "all", of the members; `top` are settings beside it.

    A member is a node, a list of nodes or the settings of the member.
    """
    document = {
        "listen": "127.0.0.1:0",
        "metrics_listen": "127.0.0.1:0",
        "members": {name: _member(member) for name, member in members.items()},
        "ensembles": {"all": {"members": list(members), **ensemble}},
        **(top or {}),
    }
    fuser = await fuser_main.start(Settings.parse(json.dumps(document), source="test.yaml"))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(fuser.stop)
        channel = await stack.enter_async_context(channel or open_channel(fuser.address))
        yield FuserMesh(fuser, FuserServiceStub(channel))


@asynccontextmanager
async def open_mesh(
    answers: Mapping[str, str], **settings: Any
) -> AsyncIterator[tuple[FuserMesh, dict[str, Node]]]:
    """Members that each write one answer, and a fuser over them. `settings` as `open_fuser`'s."""
    async with Nodes() as nodes:
        served = {
            name: await nodes.start(name, Line(answer=text)) for name, text in answers.items()
        }
        async with open_fuser(served, **settings) as mesh:
            yield mesh, served


def _member(member: Any) -> Any:
    if isinstance(member, Node):
        return {"endpoints": [member.address]}
    if isinstance(member, list):
        return {"endpoints": [node.address for node in member]}
    return member
