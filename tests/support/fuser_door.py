"""A fuser's gRPC door whose answers a test scripts, on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from grpc.aio import ServicerContext

from specfuse.headers import REQUEST_ID
from specfuse.rpc.server import RpcServer, RpcService
from specfuse.v1 import fuser_service_pb2 as pb
from specfuse.v1.fuser_service_pb2_grpc import (
    FuserServiceServicer,
    add_FuserServiceServicer_to_server,
)

if TYPE_CHECKING:
    Generate = Callable[
        [pb.GenerateRequest, ServicerContext[Any, Any]], AsyncIterator[pb.GenerateResponse]
    ]
    ListEnsembles = Callable[
        [pb.ListEnsemblesRequest, ServicerContext[Any, Any]], Awaitable[pb.ListEnsemblesResponse]
    ]

FUSER = "specfuse.v1.FuserService"


async def no_ensembles(
    request: pb.ListEnsemblesRequest, context: ServicerContext[Any, Any]
) -> pb.ListEnsemblesResponse:
    """The default script of ListEnsembles."""
    return pb.ListEnsemblesResponse()


async def no_answer(
    request: pb.GenerateRequest, context: ServicerContext[Any, Any]
) -> AsyncIterator[pb.GenerateResponse]:
    """The default script of Generate: a stream without an event."""
    for event in ():
        yield event


@dataclass
class ScriptedFuser(FuserServiceServicer):
    """Answers as scripted, and keeps the requests, contexts and headers it was called with.

    With a `request_id` it calls each request so.
    """

    generate: Generate = no_answer
    list_ensembles: ListEnsembles = no_ensembles
    request_id: str = ""
    requests: list[Any] = field(default_factory=list)
    contexts: list[ServicerContext[Any, Any]] = field(default_factory=list)
    headers: list[dict[str, Any]] = field(default_factory=list)

    async def Generate(  # noqa: N802 - the contract's name
        self, request: pb.GenerateRequest, context: ServicerContext[Any, Any]
    ) -> AsyncIterator[pb.GenerateResponse]:
        self._called(request, context)
        if self.request_id:
            await context.send_initial_metadata(((REQUEST_ID, self.request_id),))
        async for response in self.generate(request, context):
            yield response

    async def ListEnsembles(  # noqa: N802 - the contract's name
        self, request: pb.ListEnsemblesRequest, context: ServicerContext[Any, Any]
    ) -> pb.ListEnsemblesResponse:
        self._called(request, context)
        return await self.list_ensembles(request, context)

    def _called(self, request: object, context: ServicerContext[Any, Any]) -> None:
        self.requests.append(request)
        self.contexts.append(context)
        # Now, as gRPC frees them with the call.
        self.headers.append(dict(context.invocation_metadata() or ()))


def door(servicer: FuserServiceServicer, **options: Any) -> RpcServer:
    """A server for the servicer, not started, on a free port of loopback."""
    service = RpcService(FUSER, servicer, add_FuserServiceServicer_to_server)
    return RpcServer([service], **options)


@asynccontextmanager
async def open_door(servicer: FuserServiceServicer, **options: Any) -> AsyncIterator[RpcServer]:
    """A running server for the servicer."""
    async with door(servicer, **options) as server:
        yield server


def started(*members: str) -> pb.GenerateResponse:
    """The event that begins an answer."""
    return pb.GenerateResponse(
        started=pb.Started(ensemble="duo", members=members, session_id="s-1")
    )


def segment(number: int, text: str, shown: str | None = None, **fields: Any) -> pb.GenerateResponse:
    """A committed segment of two tokens, all of its text shown unless `shown` says otherwise."""
    committed = pb.SegmentCommitted(
        round=number,
        segment=text,
        text=text if shown is None else shown,
        winner=fields.pop("winner", "ada"),
        token_count=2,
        **fields,
    )
    return pb.GenerateResponse(segment_committed=committed)


def finished(text: str = "", **fields: Any) -> pb.GenerateResponse:
    """The event that ends an answer."""
    reason = fields.pop("reason", pb.FINISH_REASON_STOP)
    return pb.GenerateResponse(finished=pb.Finished(reason=reason, text=text, **fields))


def script(*events: pb.GenerateResponse | Exception) -> Generate:
    """Sends these events; an exception among them is raised in its place."""

    async def generate(
        request: pb.GenerateRequest, context: ServicerContext[Any, Any]
    ) -> AsyncIterator[pb.GenerateResponse]:
        for event in events:
            if isinstance(event, Exception):
                raise event
            yield event

    return generate
