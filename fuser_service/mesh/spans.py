"""The spans of calls to a member: a client's span for each attempt at a replica."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Final

import grpc
from opentelemetry.trace import Span, SpanKind, Tracer

from fuser_service.core.types import MemberName
from fuser_service.mesh.discovery.port import Address
from specfuse.errors import SpecFuseError
from specfuse.observability.tracing import spans
from specfuse.observability.tracing.conventions import (
    MEMBER,
    RPC_METHOD,
    RPC_STATUS,
    RPC_SYSTEM,
    SECOND_CALL,
    SERVER_ADDRESS,
    SERVER_PORT,
)
from specfuse.observability.tracing.propagation import outgoing
from specfuse.v1 import model_service_pb2 as pb

_SERVICE: Final = pb.DESCRIPTOR.services_by_name["ModelService"].full_name


@dataclass(frozen=True, slots=True)
class CallSpans:
    """Makes the spans of a member's calls by one method of the contract."""

    tracer: Tracer
    member: MemberName
    method: str

    def attempt(self, address: Address, why: str | None) -> AbstractContextManager[object]:
        """A span of a call at a replica, current inside. `why` says why it is made once more."""
        if not spans.traced():
            return spans.UNTRACED
        method = f"{_SERVICE}/{self.method}"
        host, _, port = address.rpartition(":")
        span = self.tracer.start_span(method, kind=SpanKind.CLIENT)
        span.set_attribute(RPC_SYSTEM, "grpc")
        span.set_attribute(RPC_METHOD, method)
        span.set_attribute(SERVER_ADDRESS, host.strip("[]"))
        span.set_attribute(SERVER_PORT, int(port))
        span.set_attribute(MEMBER, self.member)
        if why is not None:
            span.set_attribute(SECOND_CALL, why)
        return _with_status(span)


def trace_headers() -> tuple[tuple[str, str], ...]:
    """What a model service is told of the trace; nothing of one that is not recorded.

    Model services record what their callers do, and a header is a tenth of what a call costs.
    """
    return outgoing() if spans.traced() else ()


@contextmanager
def _with_status(span: Span) -> Iterator[None]:
    with spans.current(span):
        try:
            yield
        except BaseException as error:
            if (status := _status(error)) is not None:
                span.set_attribute(RPC_STATUS, status)
            raise
        span.set_attribute(RPC_STATUS, "OK")


def _status(error: BaseException) -> str | None:
    """How gRPC says that a call ended, if there was one."""
    if isinstance(error, asyncio.CancelledError):
        return grpc.StatusCode.CANCELLED.name
    cause = error.__cause__ if isinstance(error, SpecFuseError) else error
    return cause.code().name if isinstance(cause, grpc.aio.AioRpcError) else None
