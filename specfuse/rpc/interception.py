"""Code around every call of a server, written once for unary and server-streaming calls."""

from __future__ import annotations

import inspect
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from grpc.aio import ServicerContext

    Context = ServicerContext[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]
    Around = Callable[[Context], AbstractAsyncContextManager[None]]


def wrapped(handler: Handler, around: Around) -> Handler:
    """The handler, run inside `around(context)`.

    A handler whose requests are a stream is returned as it is: no service of ours has one.
    """
    codec = (handler.request_deserializer, handler.response_serializer)
    if handler.unary_unary is not None:
        return grpc.unary_unary_rpc_method_handler(_unary(handler.unary_unary, around), *codec)
    if handler.unary_stream is not None:
        return grpc.unary_stream_rpc_method_handler(_stream(handler.unary_stream, around), *codec)
    return handler


def _unary(behaviour: Callable[..., Any], around: Around) -> Callable[..., Any]:
    async def run(request: object, context: Context) -> object:
        async with around(context):
            return await behaviour(request, context)

    return run


def _stream(behaviour: Callable[..., Any], around: Around) -> Callable[..., Any]:
    async def run(request: object, context: Context) -> AsyncIterator[object]:
        async with around(context):
            responses = behaviour(request, context)
            if not inspect.isasyncgen(responses):
                await responses  # a coroutine that writes to the context
                return
            # Closed here and now: a caller that goes away ends the work at once.
            async with aclosing(responses):
                async for response in responses:
                    yield response

    return run
