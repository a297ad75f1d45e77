"""The calls that a server has in flight, so that a drain knows when the last one is done.

A stream of calls is in flight while one of them is being answered. Between two it is idle, and a
drain ends it there, as it is ended when too many others are idle, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc
import grpc.aio

from specfuse.rpc.interception import Context, Handler, wrapped, wrapped_requests

MOST_IDLE_STREAMS: Final = 2048
"""Most streams that are idle at a time, about 30 KiB each. A further one ends the one that has been
idle for longest."""


class InFlight(grpc.aio.ServerInterceptor):
    """Counts the calls being served, but those to the services `without`."""

    def __init__(self, without: Collection[str]) -> None:
        self.count = 0
        self._without = without
        self._none = asyncio.Event()
        self._none.set()
        self._some = asyncio.Event()
        self._idle: dict[asyncio.Task[Any], None] = {}  # in the order in which they became so
        self._ending: set[asyncio.Task[Any]] = set()
        self._no_streams = False

    async def none_left(self) -> None:
        """Returns when no call is being served."""
        await self._none.wait()

    async def none_for(self, seconds: float) -> None:
        """Returns when no call has been served for so many seconds on end."""
        while True:
            await self._none.wait()
            self._some.clear()
            try:
                await asyncio.wait_for(self._some.wait(), seconds)
            except TimeoutError:
                return

    def end_streams(self) -> None:
        """Ends streams of calls from now on: each when it is idle, with OK."""
        self._no_streams = True
        for stream in tuple(self._idle):
            self._end(stream)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """The method's handler, counted."""
        handler = await continuation(handler_call_details)
        _, service, _ = handler_call_details.method.split("/")
        if handler is None or service in self._without:
            return handler
        if handler.stream_stream is not None:
            return wrapped_requests(handler, self._each_counted)
        return wrapped(handler, self._counted)

    @asynccontextmanager
    async def _counted(self, context: Context) -> AsyncIterator[None]:
        self._began()
        # The handler's return is too early to count down: its response is still to be sent.
        ended: Any = lambda _: self._ended()  # noqa: E731 (the stubs' type is a class nobody has)
        context.add_done_callback(ended)
        yield

    async def _each_counted(
        self, requests: AsyncIterator[object], context: Context
    ) -> AsyncGenerator[object, None]:
        """The requests of a stream, each of which is in flight until the next is asked for."""
        busy = False

        def ended(_: object) -> None:
            if busy:
                self._ended()

        done: Any = ended
        context.add_done_callback(done)
        while (request := await self._next(requests)) is not None:
            busy = True
            self._began()
            yield request
            busy = False
            self._ended()

    async def _next(self, requests: AsyncIterator[object]) -> object | None:
        """The next request of an idle stream; None if there is none, or it is to end."""
        if self._no_streams:
            return None
        stream = asyncio.current_task()
        assert stream is not None  # noqa: S101 (handlers run in tasks)
        self._idle[stream] = None
        if len(self._idle) > MOST_IDLE_STREAMS:
            self._end(next(iter(self._idle)))
        try:
            return await anext(requests, None)
        except asyncio.CancelledError:
            if stream not in self._ending or stream.uncancel() > 0:
                raise
            return None
        finally:
            self._idle.pop(stream, None)
            self._ending.discard(stream)

    def _end(self, stream: asyncio.Task[Any]) -> None:
        """Ends an idle stream with OK."""
        del self._idle[stream]
        self._ending.add(stream)
        stream.cancel()

    def _began(self) -> None:
        self.count += 1
        self._none.clear()
        self._some.set()

    def _ended(self) -> None:
        self.count -= 1
        if not self.count:
            self._none.set()
