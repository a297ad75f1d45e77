"""One replica of a member: its channel, its health, its lineage, and the calls it has in flight."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

import grpc
from grpc_health.v1 import health_pb2

from fuser_service.mesh.breaker import Breaker
from fuser_service.mesh.discovery.port import Address, Endpoint
from fuser_service.mesh.identity import Identity
from fuser_service.mesh.lineage import UNTOLD, Lineage
from fuser_service.mesh.spans import trace_headers
from fuser_service.mesh.stream import MOST_BYTES, CallStream, OpenStreams, Streams
from fuser_service.mesh.stub import Method, ModelServiceStub
from specfuse.deadline import Deadline
from specfuse.errors import Cancelled, DeadlineExceeded, SpecFuseError, Unavailable
from specfuse.headers import LINEAGE
from specfuse.observability.tracing.spans import traced
from specfuse.rpc.errors import from_rpc_error, without_address
from specfuse.v1 import model_service_pb2 as pb

Response = TypeVar("Response")

_logger = logging.getLogger(__name__)

_WATCH_AGAIN_SECONDS = (0.2, 0.6)
"""Range of the pause before health is watched anew; random, so that not all fusers ask at once."""

_WARM_UP_SECONDS = 10.0
"""How long a replica that is back is spared, as its caches are cold and all sessions new to it."""

_CLOSE_GRACE_SECONDS = 60.0
"""How long a replica that is no longer wanted may take to answer what it was asked."""

_IDENTIFY_SECONDS = 10.0
"""How long a replica may take to say what it is."""

_DOES_NOT_TELL = (
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
)
"""How it refuses to say what it is, whenever it is asked. Any other error may pass."""


class Health(Enum):
    """What an endpoint says of itself. `UNHEARD` until its first report."""

    UNHEARD = "unheard"
    SERVING = "serving"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Answered(Generic[Response]):
    """A response, and the lineage of what gave it."""

    response: Response
    lineage: Lineage


class Replica:
    """One endpoint. Create it on a running event loop; it watches the endpoint's health at once.

    `changed` is called when it became known how it is, or which lineage it has.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        channel: grpc.aio.Channel,
        changed: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.endpoint = endpoint
        """Replaced when more becomes known of it; its address stays."""
        self._stub = ModelServiceStub(channel)
        self.in_flight = 0
        self._channel = channel
        self._breaker = Breaker()
        self._health = Health.UNHEARD
        self._changed = changed
        self._identity = Identity(self._lineage_asked, changed)
        self._clock = clock
        self._back_at = -math.inf
        self._has_streams = False
        self._open_streams = OpenStreams()
        self._watching = asyncio.create_task(self._watch())
        self._moving: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> Address:
        """Where it is."""
        return self.endpoint.address

    @property
    def allowed(self) -> bool:
        """Whether its breaker lets a call through."""
        return self._breaker.allows

    @property
    def hopeful(self) -> bool:
        """Whether a call is thought to succeed. False also while it drains."""
        return self.allowed and self._health is not Health.DOWN

    @property
    def serving(self) -> bool:
        """Whether it says that it serves."""
        return self._health is Health.SERVING

    @property
    def ready(self) -> bool:
        """Whether it says that it serves, and its breaker does not know better."""
        return self.allowed and self.serving

    @property
    def told(self) -> Lineage | None:
        """What it last said that it is, while it serves."""
        return self._identity.last if self._health is Health.SERVING else None

    def may_be(self, lineage: Lineage | None) -> bool:
        """Whether it is of this lineage, or may be; None is any."""
        return lineage is None or self._identity.known in (None, lineage)

    @property
    def outpaced(self) -> bool:
        """Whether its breaker keeps calls away only because siblings were faster."""
        return self._breaker.outpaced

    @property
    def warmth(self) -> float:
        """How much of its share of new sessions it gets, in (0, 1]: less when it is just back."""
        return min(1.0, (1.0 + self._clock() - self._back_at) / _WARM_UP_SECONDS)

    def outpaced_by_sibling(self) -> None:
        """A call that it has in flight was answered by a sibling that was asked later."""
        self._breaker.late()
        if self._breaker.outpaced:
            _logger.warning("%s is left alone for a while: it is slower than others", self.address)

    async def call(
        self,
        method: Method[Response],
        request: bytes,
        deadline: Deadline,
        lineage: Lineage | None,
        streams: Streams,
    ) -> Answered[Response]:
        """The response to a call of a method, over one of the streams if the replica has them.

        If a lineage is given, only a response of that one counts.

        Raises:
            SpecFuseError: what went wrong. `Unavailable` is about the endpoint, the others are not.
        """
        self._breaker.started()
        self.in_flight += 1
        try:
            answered = await self._answered(method, request, deadline, lineage, streams)
        except TimeoutError as late:
            self._breaker.abandoned()
            raise DeadlineExceeded("the replica did not say what it is in time") from late
        except grpc.aio.UsageError as closed:
            self._breaker.abandoned()
            raise Unavailable("the replica is gone") from closed  # its channel was closed before
        except grpc.aio.AioRpcError as rpc_error:
            error = from_rpc_error(rpc_error, peer=self.address)
            self._learn_from(error)
            raise without_address(error) from rpc_error
        except asyncio.CancelledError as cancelled:
            self._breaker.abandoned()
            if _asked_to_stop():
                raise
            raise Unavailable("the replica is gone") from cancelled  # its channel was closed
        else:
            self._breaker.succeeded()
            return answered
        finally:
            self.in_flight -= 1

    def reconnect(self, channel: grpc.aio.Channel) -> None:
        """Goes over to another channel once the endpoint serves there.

        Until then calls go on over the channel there is, whose last ones then get time to finish.
        """
        if self._moving is not None:
            self._moving.cancel()
        self._moving = asyncio.create_task(self._move_to(channel))

    async def close(self, grace: float = _CLOSE_GRACE_SECONDS) -> None:
        """Lets calls in flight finish within `grace` seconds, then closes the channel."""
        ending = [self._watching, *self._closing]
        if self._moving is not None:
            ending.append(self._moving)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        await self._channel.close(grace)
        await self._identity.close()

    async def _answered(
        self,
        method: Method[Response],
        request: bytes,
        deadline: Deadline,
        lineage: Lineage | None,
        streams: Streams,
    ) -> Answered[Response]:
        stream = streams.take(self.address, self._stub) if self._may_stream(request) else None
        if stream is not None:  # whose first answer told for all what gives them
            response = await self._over(stream, method, request, deadline)
            streams.put(self.address, stream)
            return Answered(response, stream.lineage)
        before = await self._lineage(deadline)
        if lineage not in (None, before):
            self._breaker.abandoned()
            raise Unavailable("the replica is of another revision")
        response, mark, stream = await self._asked(method, request, deadline, before)
        try:
            await self._check_is_of(before, mark, deadline)
        except BaseException:
            if stream is not None:
                stream.close()
            raise
        if stream is not None:
            streams.put(self.address, stream)
        return Answered(response, before)

    async def _check_is_of(
        self, lineage: Lineage, mark: str | bytes | None, deadline: Deadline
    ) -> None:
        if not await self._is_of(lineage, mark, deadline):
            self._identity.forget()
            self._breaker.succeeded()
            raise Unavailable("the replica became one of another revision")

    async def _asked(
        self, method: Method[Response], request: bytes, deadline: Deadline, lineage: Lineage
    ) -> tuple[Response, str | bytes | None, CallStream | None]:
        """The response, what it is marked with, and the stream that it came over, if it did."""
        if self._may_stream(request) and not self._open_streams.full:
            stream = CallStream(self._stub, lineage, self._open_streams)
            try:
                response = await self._over(stream, method, request, deadline)
                return response, await stream.mark(), stream
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                    raise
                self._has_streams = False  # it has become one of before there were any
        headers = trace_headers()
        call = method.unary(self._stub)(request, timeout=deadline.timeout, metadata=headers)
        response = await call
        return response, (await call.trailing_metadata()).get(LINEAGE), None

    def _may_stream(self, request: bytes) -> bool:
        """Whether a call may be one of a stream: one that is traced is to be seen by itself."""
        return self._has_streams and len(request) <= MOST_BYTES and not traced()

    async def _over(
        self, stream: CallStream, method: Method[Response], request: bytes, deadline: Deadline
    ) -> Response:
        """The response over a stream."""
        try:
            return await stream.ask(method, request, deadline)
        except SpecFuseError as error:
            self._learn_from(error)
            raise

    async def _move_to(self, channel: grpc.aio.Channel) -> None:
        try:
            await _serves(channel)
        except asyncio.CancelledError:
            await channel.close()
            raise
        left, self._channel = self._channel, channel
        self._stub = ModelServiceStub(channel)
        self._watching.cancel()
        self._watching = asyncio.create_task(self._watch())
        closing = asyncio.create_task(left.close(_CLOSE_GRACE_SECONDS))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        _logger.info("%s is reached over a new connection", self.address)

    def _learn_from(self, error: SpecFuseError) -> None:
        if isinstance(error, Unavailable):
            self._identity.forget()  # whoever answers next may be another
            self._breaker.failed()
            if not self._breaker.allows:
                _logger.warning("%s is left alone for a while: %s", self.address, error.message)
        elif isinstance(error, Cancelled | DeadlineExceeded):
            self._breaker.abandoned()
        else:
            self._breaker.succeeded()

    async def _watch(self) -> None:
        async for health in _health_of(self._channel):
            if health is not Health.DOWN:  # one that drains is still who it was
                self._identity.forget()
            if health is Health.UNHEARD:
                continue
            if health is Health.SERVING:
                self._identity.ask()
                if self._health is Health.DOWN:
                    self._breaker.succeeded()  # it is back: what its breaker knew is out of date
                    self._back_at = self._clock()
            if health is not self._health:
                _logger.info("%s is %s", self.address, health.value)
            self._health = health
            self._changed()

    async def _lineage(self, deadline: Deadline) -> Lineage:
        """What it is.

        Raises:
            Unavailable: it does not say.
            grpc.aio.AioRpcError, grpc.aio.UsageError: it cannot be reached.
            TimeoutError: the deadline passed.
        """
        if self._identity.known is not None:
            return self._identity.known
        try:
            async with asyncio.timeout(deadline.timeout):
                return await self._identity.get()
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                raise
            silent = Unavailable(f"the replica does not say what it is ({error.code().name})")
            self._learn_from(silent)
            raise silent from error

    async def _is_of(self, lineage: Lineage, mark: str | bytes | None, deadline: Deadline) -> bool:
        """Whether what answered a call is of the lineage that there was when the call began.

        The answer says so itself: it may have come over another connection than what is known of
        the replica, and that from another process. If it does not, a connection that broke
        meanwhile may have led to another. If nobody is there to say so, nobody else was there to
        answer, either.
        """
        if mark is not None and lineage != UNTOLD:
            return mark == lineage.mark
        try:
            return await self._lineage(deadline) == lineage
        except (Unavailable, grpc.aio.AioRpcError, grpc.aio.UsageError, TimeoutError):
            return True

    async def _lineage_asked(self) -> Lineage:
        try:
            model = await self._stub.get_model(pb.GetModelRequest(), timeout=_IDENTIFY_SECONDS)
        except grpc.aio.AioRpcError as error:
            if error.code() in _DOES_NOT_TELL:
                self._has_streams = False
                return UNTOLD
            raise
        self._has_streams = model.capabilities.streamed_calls
        return Lineage(model.revision, model.tokenizer_fingerprint, model.backend)


def _asked_to_stop() -> bool:
    """Whether somebody cancelled this very task, rather than the call it awaits."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


async def _serves(channel: grpc.aio.Channel) -> None:
    """Returns once the endpoint says that it serves."""
    async with aclosing(_health_of(channel)) as words:
        async for health in words:
            if health is Health.SERVING:
                return


async def _health_of(channel: grpc.aio.Channel) -> AsyncGenerator[Health, None]:
    """What the endpoint says of itself, whenever it does; DOWN when it cannot be reached.

    UNHEARD when a connection ended: the next word is that of whoever is there now.
    """
    watch = channel.unary_stream(
        "/grpc.health.v1.Health/Watch",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    while True:
        heard = False
        try:
            async for response in watch(health_pb2.HealthCheckRequest()):
                heard = True
                serves = response.status == health_pb2.HealthCheckResponse.SERVING
                yield Health.SERVING if serves else Health.DOWN
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                # Without the health service, being reachable is all there is to know.
                yield Health.SERVING
                return
        if heard:  # it may only have closed an old connection: ask at once
            yield Health.UNHEARD
        else:
            yield Health.DOWN
            await asyncio.sleep(random.uniform(*_WATCH_AGAIN_SECONDS))  # noqa: S311 (not a secret)
