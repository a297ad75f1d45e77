"""A span around every call of a server.

The published instrumentation is not used: it knows neither calls that their callers gave up, nor
handlers that send by themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import grpc
import grpc.aio
from opentelemetry.trace import Span, StatusCode

from specfuse.observability.tracing.conventions import (
    ERROR_TYPE,
    RPC_METHOD,
    RPC_STATUS,
    RPC_SYSTEM,
)
from specfuse.observability.tracing.outcomes import cancelled
from specfuse.observability.tracing.requests import RequestSpans
from specfuse.rpc.errors import reason_in
from specfuse.rpc.interception import Context, Handler, wrapped

_CODE: Final = grpc.StatusCode
_SERVERS_FAULT: Final = frozenset(
    {
        _CODE.UNKNOWN,
        _CODE.DEADLINE_EXCEEDED,
        _CODE.UNIMPLEMENTED,
        _CODE.INTERNAL,
        _CODE.UNAVAILABLE,
        _CODE.DATA_LOSS,
    }
)
"""The codes with which a server's span is in error, by the conventions."""

_TIMER_SLACK_SECONDS: Final = 0.05
"""A caller may end its call so much before its deadline passes here."""


class TracingInterceptor(grpc.aio.ServerInterceptor):
    """Makes the span of each call, around all that becomes of it, its status included."""

    def __init__(self, spans: RequestSpans) -> None:
        self._spans = spans

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """The method's handler, within a span."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method.removeprefix("/")
        return wrapped(handler, lambda context: self._traced(context, method))

    @asynccontextmanager
    async def _traced(self, context: Context, method: str) -> AsyncIterator[None]:
        attributes = {RPC_SYSTEM: "grpc", RPC_METHOD: method}
        metadata = context.invocation_metadata() or ()
        with self._spans.span(method, metadata, attributes) as span:
            try:
                yield
            except (asyncio.CancelledError, GeneratorExit):
                _gave_up(span, context)
                raise
            except BaseException:
                _failed(span, context)
                raise
            span.set_attribute(RPC_STATUS, _code_of(context, _CODE.OK).name)


def _code_of(context: Context, default: grpc.StatusCode) -> grpc.StatusCode:
    code: grpc.StatusCode | None = context.code()  # the stubs do not know that nobody set one
    return default if code is None else code


def _failed(span: Span, context: Context) -> None:
    code = _code_of(context, _CODE.UNKNOWN)
    span.set_attribute(RPC_STATUS, code.name)
    span.set_attribute(ERROR_TYPE, reason_in(context.trailing_metadata() or ()) or code.name)
    if code in _SERVERS_FAULT:
        span.set_status(StatusCode.ERROR)


def _gave_up(span: Span, context: Context) -> None:
    """The caller's deadline passed, or the caller, or this server at its end, gave the call up."""
    remaining = context.time_remaining()
    if remaining is None or remaining > _TIMER_SLACK_SECONDS:
        cancelled(span)
        span.set_attribute(RPC_STATUS, _CODE.CANCELLED.name)
        return
    span.set_attribute(RPC_STATUS, _CODE.DEADLINE_EXCEEDED.name)
    span.set_attribute(ERROR_TYPE, _CODE.DEADLINE_EXCEEDED.name)
    span.set_status(StatusCode.ERROR)
