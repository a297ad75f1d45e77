"""A model service's gRPC door on a real server, over a backend that a test holds in its hands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry

from model_service.core.scores import evidence_of, score_of
from model_service.core.types import (
    Candidate,
    Capabilities,
    ModelDescription,
    Proposal,
    ProposeRequest,
    Score,
    ScoreRequest,
    Scores,
    SegmentFinish,
    Usage,
)
from model_service.doors.grpc.servicer import rpc_service
from model_service.metrics import ModelMetrics
from model_service.service import ModelService
from model_service.settings import Limits
from specfuse.deadline import Deadline
from specfuse.rpc.channels import open_channel
from specfuse.rpc.server import RpcServer
from specfuse.v1 import model_service_pb2 as pb
from specfuse.v1.model_service_pb2_grpc import ModelServiceStub

MODEL = ModelDescription(
    name="held",
    revision="r1",
    tokenizer_fingerprint="f1",
    context_window=99,
    backend="scripted",
    capabilities=Capabilities(
        tree_scoring=True, own_scores=False, prefix_cache=True, evidence=True
    ),
)


@dataclass
class HeldBackend:
    """Keeps every call until it is released, and knows what became of it."""

    raises: Exception | None = None
    requests: list[ProposeRequest | ScoreRequest] = field(default_factory=list)
    deadlines: list[Deadline] = field(default_factory=list)
    arrivals: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    """Acquired once for every call that has arrived."""
    released: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    model: ModelDescription = MODEL

    async def propose(self, request: ProposeRequest, deadline: Deadline) -> Proposal:
        await self._held(request, deadline)
        return Proposal(" so", SegmentFinish.END, 1, Usage(3, 2))

    async def score(self, request: ScoreRequest, deadline: Deadline) -> Scores:
        await self._held(request, deadline)
        return Scores(tuple(map(_scored, request.candidates)), Usage(3, 2))

    async def close(self) -> None:
        self.released.set()

    async def _held(self, request: ProposeRequest | ScoreRequest, deadline: Deadline) -> None:
        self.requests.append(request)
        self.deadlines.append(deadline)
        self.arrivals.release()
        try:
            await self.released.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        if self.raises is not None:
            raise self.raises


@dataclass(frozen=True)
class ModelDoor:
    """An open door: the stub to call it by, and what is behind it."""

    stub: ModelServiceStub
    backend: HeldBackend
    server: RpcServer
    registry: CollectorRegistry

    def metric(self, name: str, **labels: str) -> float | None:
        """The value of a sample of the served model."""
        return self.registry.get_sample_value(name, {"model_name": MODEL.name, **labels})


@asynccontextmanager
async def open_model_door(
    backend: HeldBackend | None = None, limits: Limits | None = None
) -> AsyncIterator[ModelDoor]:
    """A served backend. Without one given, one that answers at once."""
    if backend is None:
        backend = HeldBackend()
        backend.released.set()
    registry = CollectorRegistry()
    service = ModelService(backend, limits or Limits(), ModelMetrics(MODEL.name, registry))
    async with (
        RpcServer([rpc_service(service)]) as server,
        open_channel(server.address) as channel,
    ):
        yield ModelDoor(ModelServiceStub(channel), backend, server, registry)


def raw_context(prompt: str = "Once upon a time", **fields: object) -> pb.Context:
    """A context that starts with raw text."""
    return pb.Context(raw_prompt=prompt, **fields)


def _scored(candidate: Candidate) -> Score:
    """With evidence where there is text."""
    logprobs = [-0.5, -0.25]
    evidence = evidence_of(logprobs, [-0.25, -0.25], [0, 1], 1.5) if candidate.text else None
    return score_of(logprobs, candidate.text, evidence)
