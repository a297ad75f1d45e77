"""Code around every call of a server, written once for calls of all kinds that services have."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from functools import partial
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError
from grpc.aio import ServicerContext

from specfuse.errors import InvalidArgument

Context: TypeAlias = "ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Around: TypeAlias = Callable[["Context"], AbstractAsyncContextManager[None]]
Each: TypeAlias = Callable[["AsyncIterator[object]", "Context"], "AsyncGenerator[object, None]"]


def wrapped(handler: Handler, around: Around) -> Handler:
    """The handler, run inside `around(context)`.

    A handler that gives one answer to a stream of requests is returned as it is: nobody has one.
    """
    decode = _decoder(handler)
    encode = handler.response_serializer
    if handler.unary_unary is not None:
        unary = _unary(handler.unary_unary, around, decode)
        return grpc.unary_unary_rpc_method_handler(unary, None, encode)
    if handler.unary_stream is not None:
        stream = _stream(handler.unary_stream, around, decode)
        return grpc.unary_stream_rpc_method_handler(stream, None, encode)
    if handler.stream_stream is not None:
        stream = _stream(handler.stream_stream, around, partial(_each_decoded, decode))
        return grpc.stream_stream_rpc_method_handler(stream, None, encode)
    return handler


def wrapped_requests(handler: Handler, each: Each) -> Handler:
    """The handler of a stream of requests, which gets them from `each(requests, context)`."""
    behaviour: Any = handler.stream_stream

    async def run(requests: AsyncIterator[object], context: Context) -> AsyncIterator[object]:
        async with (
            aclosing(each(requests, context)) as given,
            aclosing(behaviour(given, context)) as responses,
        ):
            async for response in responses:
                yield response

    return grpc.stream_stream_rpc_method_handler(
        run, handler.request_deserializer, handler.response_serializer
    )


async def _each_decoded(
    decode: Callable[[Any], Any], requests: AsyncIterator[Any]
) -> AsyncIterator[Any]:
    async for request in requests:
        yield decode(request)


def _decoder(handler: Handler) -> Callable[[Any], Any]:
    """Turns a request's bytes into its message. Runs inside: gRPC would end bad bytes with UNKNOWN.

    A handler that is wrapped already decodes by itself.
    """
    deserialize = handler.request_deserializer

    def decode(request: Any) -> Any:  # noqa: ANN401
        if deserialize is None:
            return request
        try:
            return deserialize(request)
        except DecodeError as error:
            problem = "is not a message of this method: text that is not UTF-8, or corrupt bytes"
            raise InvalidArgument("request", problem) from error

    return decode


def _unary(
    behaviour: Callable[..., Any], around: Around, decode: Callable[[Any], Any]
) -> Callable[..., Any]:
    async def run(request: object, context: Context) -> object:
        async with around(context):
            return await behaviour(decode(request), context)

    return run


def _stream(
    behaviour: Callable[..., Any], around: Around, decode: Callable[[Any], Any]
) -> Callable[..., Any]:
    async def run(request: object, context: Context) -> AsyncIterator[object]:
        async with around(context):
            responses = behaviour(decode(request), context)
            if not inspect.isasyncgen(responses):
                await responses  # a coroutine that writes to the context
                return
            # Closed here and now: a caller that goes away ends the work at once.
            async with aclosing(responses):
                async for response in responses:
                    yield response

    return run
