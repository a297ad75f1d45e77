"""A collector: OTLP's TraceService on a real port, which keeps what it is sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass(frozen=True, slots=True)
class Received:
    """A span as it arrived."""

    span: Span
    resource: dict[str, Any]

    @property
    def name(self) -> str:
        return self.span.name

    @property
    def attributes(self) -> dict[str, Any]:
        return _values(self.span.attributes)

    @property
    def trace_id(self) -> str:
        return self.span.trace_id.hex()

    @property
    def span_id(self) -> str:
        return self.span.span_id.hex()

    @property
    def parent_id(self) -> str:
        """Empty if it is the first of its trace."""
        return self.span.parent_span_id.hex()


@dataclass
class OtlpReceiver(TraceServiceServicer):
    """Takes spans, unless it is told to do otherwise."""

    address: str = ""
    spans: list[Received] = field(default_factory=list)
    requests: int = 0
    refuses: grpc.StatusCode | None = None
    holds: bool = False
    """Whether calls are not answered until it is told to `let_go`."""
    rejects: str = ""
    """Why every span is rejected, if it is."""
    _arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def Export(  # noqa: N802 (the contract's name)
        self, request: pb.ExportTraceServiceRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.ExportTraceServiceResponse:
        async with self._arrived:
            self.requests += 1
            self._arrived.notify_all()
            await self._arrived.wait_for(lambda: not self.holds)
        if self.refuses is not None:
            await context.abort(self.refuses, "not now")
        received = [
            Received(span, _values(one.resource.attributes))
            for one in request.resource_spans
            for scope in one.scope_spans
            for span in scope.spans
        ]
        if self.rejects:
            partial = pb.ExportTracePartialSuccess(
                rejected_spans=len(received), error_message=self.rejects
            )
            return pb.ExportTraceServiceResponse(partial_success=partial)
        async with self._arrived:
            self.spans += received
            self._arrived.notify_all()
        return pb.ExportTraceServiceResponse()

    async def let_go(self) -> None:
        """Answers the calls that are held, and does not hold any from now on."""
        async with self._arrived:
            self.holds = False
            self._arrived.notify_all()

    async def has(self, satisfied: Callable[[OtlpReceiver], bool]) -> None:
        """Returns once what it was sent satisfies this."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: satisfied(self))

    async def has_spans(self, *names: str) -> list[Received]:
        """The first span of each of these names, once they are there."""
        await self.has(lambda it: {one.name for one in it.spans} >= set(names))
        return [next(one for one in self.spans if one.name == name) for name in names]


@asynccontextmanager
async def open_receiver(
    listen: str = "127.0.0.1:0", credentials: grpc.ServerCredentials | None = None
) -> AsyncIterator[OtlpReceiver]:
    """A receiver that serves."""
    receiver = OtlpReceiver()
    server = grpc.aio.server()
    add_TraceServiceServicer_to_server(receiver, server)
    if credentials is None:
        port = server.add_insecure_port(listen)
    else:
        port = server.add_secure_port(listen, credentials)
    await server.start()
    receiver.address = f"127.0.0.1:{port}"
    try:
        yield receiver
    finally:
        await server.stop(None)


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: _value(one.value) for one in attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return tuple(_value(one) for one in value.array_value.values)
    return getattr(value, kind)
