"""A query's calls to one replica over one stream: that costs both less than calls of their own.

Each is as complete in itself as a call of its own, and fails as that would. Whatever goes wrong, or
is cancelled, ends the stream; the next call opens another.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

import grpc
import grpc.aio

from fuser_service.mesh.discovery.port import Address
from fuser_service.mesh.lineage import Lineage
from fuser_service.mesh.stub import Method, ModelServiceStub
from fuser_service.mesh.wire import streamed
from specfuse.deadline import Deadline
from specfuse.errors import DeadlineExceeded, ModelFailure, Unavailable
from specfuse.headers import LINEAGE
from specfuse.v1 import model_service_pb2 as pb

if TYPE_CHECKING:
    _Call = grpc.aio.StreamStreamCall[bytes, pb.StreamCallsResponse]

Response = TypeVar("Response")

MOST_OPEN: Final = 64
"""Most streams that are open to a replica at a time; further queries make calls of their own.

A server, or a proxy before it, bounds what is open on a connection, often to the 100 that HTTP/2
asks for at least (RFC 9113, 6.5.2). All beyond that wait, and nothing says so: if idle streams
could be as many, no call would get through until queries end.
"""

MOST_BYTES: Final = 1024 * 1024
"""A larger call is made by itself: what a stream saves is nothing beside it, and a message that is
larger than a channel takes is told apart from a broken stream only there."""

_END_SECONDS: Final = 5.0
"""How long a replica may take to end a stream that nothing more is asked over."""

_LOST_WHILE_SENDING: Final = grpc.StatusCode.INTERNAL
"""How grpc.aio ends a stream that broke just while something was written to it."""


class OpenStreams:
    """The streams that are open to one replica, of all queries."""

    def __init__(self) -> None:
        self._calls: set[_Call] = set()
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def full(self) -> bool:
        """Whether there may be no more of them."""
        return len(self._calls) >= MOST_OPEN

    def add(self, call: _Call) -> None:
        """Counts one in until it ends, whichever side ends it."""
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    def end(self, call: _Call) -> None:
        """Ends one in good order, in a while: to proxies and their numbers it is no failure."""
        ending = asyncio.create_task(_end(call))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)


class CallStream:
    """A stream of calls to a replica of this lineage, made one after the other."""

    def __init__(self, stub: ModelServiceStub, lineage: Lineage, opened: OpenStreams) -> None:
        self.lineage = lineage
        self._stub = stub
        self._opened = opened
        self._call = stub.stream_calls()
        opened.add(self._call)

    def goes_by(self, stub: ModelServiceStub) -> bool:
        """Whether a call can be made, over the same connection as this stub would make it."""
        return self._stub is stub and not self._call.done()

    async def ask(self, method: Method[Response], request: bytes, deadline: Deadline) -> Response:
        """The answer to a call.

        Raises:
            Unavailable: the stream ended before it was answered.
            DeadlineExceeded: the deadline passed.
            ModelFailure: the answer is to something else.
            grpc.aio.AioRpcError, grpc.aio.UsageError: as a call of its own does.
        """
        try:
            answer = await self._answer(streamed(method.field, request, deadline.timeout), deadline)
        except BaseException:
            self.close()
            raise
        if not isinstance(answer, pb.StreamCallsResponse):
            raise Unavailable("the replica ended the stream")
        if not answer.HasField(method.field):
            raise ModelFailure("an answer to another call than was made")
        return method.answer(answer)

    async def mark(self) -> str | bytes | None:
        """What the replica marks its answers with. Known once there was one."""
        mark: str | bytes | None = (await self._call.initial_metadata()).get(LINEAGE)
        return mark

    def close(self) -> None:
        """Ends it, and what is being answered."""
        self._call.cancel()

    def end(self) -> None:
        """Ends it between two calls."""
        if not self._call.done():
            self._opened.end(self._call)

    async def _answer(self, call: bytes, deadline: Deadline) -> object:
        try:
            async with asyncio.timeout(deadline.timeout):
                await self._send(call)
                return await self._call.read()
        except TimeoutError as late:
            raise DeadlineExceeded("did not answer the call") from late

    async def _send(self, request: bytes) -> None:
        try:
            await self._call.write(request)
        except grpc.aio.AioRpcError as error:
            if error.code() is not _LOST_WHILE_SENDING:
                raise
            raise Unavailable("the replica's stream broke") from error


class Streams:
    """The idle streams of one query, at most one to each replica."""

    def __init__(self) -> None:
        self._idle: dict[Address, CallStream] = {}

    def take(self, address: Address, stub: ModelServiceStub) -> CallStream | None:
        """The stream to a replica that this stub reaches, to be put back after a call."""
        stream = self._idle.pop(address, None)
        if stream is None or stream.goes_by(stub):
            return stream
        stream.end()
        return None

    def put(self, address: Address, stream: CallStream) -> None:
        """Keeps a stream for the next call; it is the only one that the query still needs."""
        for other in self._idle.values():
            other.end()
        self._idle = {address: stream}

    def close(self) -> None:
        """Ends them all."""
        for stream in self._idle.values():
            stream.end()
        self._idle.clear()


async def _end(call: _Call) -> None:
    with suppress(TimeoutError, grpc.RpcError, grpc.aio.BaseError):
        async with asyncio.timeout(_END_SECONDS):
            await call.done_writing()
            await call.code()
    call.cancel()
