"""A gRPC server's life: bind, serve, report health, drain, stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from specfuse.config.addresses import host_and_port
from specfuse.deadline import Deadline
from specfuse.errors import DeadlineExceeded, Misconfigured
from specfuse.observability.tracing.requests import NONE, RequestSpans
from specfuse.rpc.channels import MAX_MESSAGE_BYTES, PROBE_SECONDS
from specfuse.rpc.errors import ErrorInterceptor
from specfuse.rpc.in_flight import InFlight
from specfuse.rpc.interception import Context, Handler, wrapped
from specfuse.rpc.tls import RenewableTls, TlsFiles
from specfuse.rpc.tracing import TracingInterceptor

_STANDARD_SERVICES: Final = (health.SERVICE_NAME, reflection.SERVICE_NAME)
_WATCH: Final = f"/{health.SERVICE_NAME}/Watch"
MAX_CONNECTIONS: Final = 1024
"""Most connections at a time; a further one is closed."""

_IDLE_SECONDS: Final = 300
"""A connection without calls is closed after so long. Its owner connects again when it must."""

_AGE_SECONDS: Final = 3600
"""A connection takes no new calls after so long, and is closed after as long again. Callers connect
anew without noticing, and so find replicas that were added meanwhile."""

_KEEPALIVE_SECONDS: Final = 20
"""A caller with calls in flight is probed when it has been silent for so long."""

_KEEPALIVE_TIMEOUT_SECONDS: Final = 10
"""A caller that leaves a probe unanswered for so long is gone. Its work can wait longer for that
than a caller can for an answer, and callers may sleep."""

_HANDSHAKE_SECONDS: Final = 10
"""How long a new connection may take to say what it speaks."""

_STALL_SECONDS: Final = 60.0
"""How long a caller may leave what it is sent unread."""

_FLUSH_SECONDS: Final = 5.0
_UNWIND_SECONDS: Final = 5.0
_NO_LIMIT_SECONDS: Final = 1e9
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RpcService:
    """A servicer under its full name, with the generated function that adds it to a server."""

    name: str
    servicer: object
    register: Callable[[Any, grpc.aio.Server], None]


class RpcServer:
    """Serves gRPC services beside the standard health and reflection services.

    Health is SERVING, overall ("") and for each service by name, from the start to the drain.
    """

    def __init__(
        self,
        services: Sequence[RpcService],
        listen: str = "127.0.0.1:0",
        *,
        tls: TlsFiles | RenewableTls | None = None,
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
        tracing: RequestSpans = NONE,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        """Prepares a server; nothing is bound before `start`.

        Args:
            services: What to serve.
            listen: `host:port`; port 0 takes a free one.
            tls: Certificate, key and, for mutual TLS, the callers' authority. None is plain text.
            interceptors: Code around every call but those to health and reflection. What it raises
                becomes a status, as in a servicer.
            tracing: Makes the span of every call but those.
            max_message_bytes: A larger message, either way, fails with RESOURCE_EXHAUSTED.
        """
        self._services = tuple(services)
        self._listen = listen
        self._tls = tls
        self._interceptors = tuple(interceptors)
        self._tracing = (TracingInterceptor(tracing),) if tracing.makes_any else ()
        self._max_message_bytes = max_message_bytes
        self._health = health.aio.HealthServicer()
        self._in_flight = InFlight(without=_STANDARD_SERVICES)
        self._watchers = _Watchers()
        self._server: grpc.aio.Server | None = None
        self._address = ""

    @property
    def address(self) -> str:
        """`host:port` as bound; empty before `start`."""
        return self._address

    @property
    def calls_in_flight(self) -> int:
        """Calls being served, without those to health and reflection."""
        return self._in_flight.count

    async def start(self) -> None:
        """Binds and serves.

        Raises:
            Misconfigured: the address is malformed or taken, or the TLS files are wrong.
        """
        host, _ = host_and_port(self._listen)
        server = grpc.aio.server(
            interceptors=(
                self._in_flight,
                self._watchers,
                *map(_NotAroundStandardServices, self._tracing),
                ErrorInterceptor(),
                *map(_NotAroundStandardServices, self._interceptors),
            ),
            options=_options(self._max_message_bytes),
        )
        port = self._bind(server)
        for service in self._services:
            service.register(service.servicer, server)
            await self._health.set(service.name, health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = [service.name for service in self._services]
        reflection.enable_server_reflection([*names, *_STANDARD_SERVICES], server)
        await server.start()
        self._server = server
        self._address = f"{host}:{port}"
        _logger.info("serving %s on %s", ", ".join(names), self._address)

    async def report(self, name: str, *, serving: bool) -> None:
        """Says by health whether something that is no service of its own, `name`, can be used."""
        status = health_pb2.HealthCheckResponse
        await self._health.set(name, status.SERVING if serving else status.NOT_SERVING)

    async def quiet(self, seconds: float) -> None:
        """Returns once no call was being served for so many seconds on end."""
        await self._in_flight.none_for(seconds)

    async def drain(self, grace_seconds: float) -> None:
        """Ends gracefully: NOT_SERVING first, then no new calls, then what is in flight finishes.

        Calls still running after the grace are cancelled. Cancelling the drain stops at once.
        """
        await self._health.enter_graceful_shutdown()
        if self._server is None:
            return
        _logger.info("draining %s: %d calls in flight", self._address, self._in_flight.count)
        # The grace is kept here: if gRPC's own ends while another stop finishes, the process
        # crashes.
        closing = asyncio.create_task(self._server.stop(_NO_LIMIT_SECONDS))
        self._in_flight.end_streams()
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._in_flight.none_left(), grace_seconds)
                self._watchers.end()
                # What was answered last may still be on its way out, and stopping would drop it.
                await asyncio.wait({closing}, timeout=_FLUSH_SECONDS)
        finally:
            if not closing.done():
                await self._server.stop(None)
            await closing
            # Cancelled calls get time to unwind before their backend is closed.
            with suppress(TimeoutError):
                await asyncio.wait_for(self._in_flight.none_left(), _UNWIND_SECONDS)

    async def stop(self) -> None:
        """Ends at once, cancelling what is in flight. Idempotent."""
        await self.drain(0.0)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    def _bind(self, server: grpc.aio.Server) -> int:
        credentials = None if self._tls is None else self._tls.credentials()
        try:
            if credentials is None:
                return server.add_insecure_port(self._listen)
            return server.add_secure_port(self._listen, credentials)
        except RuntimeError as error:
            raise Misconfigured(
                f"listen: cannot bind {self._listen}: the port is in use, or the host is not an "
                "address of this machine; choose another, or port 0 for a free one",
                listen=self._listen,
            ) from error


def deadline_of(context: grpc.aio.ServicerContext[Any, Any]) -> Deadline:
    """The deadline the caller set; never, if it set none."""
    remaining: float | None = context.time_remaining()
    return Deadline.after(remaining)


async def send(
    context: grpc.aio.ServicerContext[Any, Any], message: object, deadline: Deadline
) -> None:
    """Sends a message of a stream, to a caller that reads.

    Raises:
        DeadlineExceeded: the deadline passed, or the caller has read nothing for too long.
    """
    try:
        async with asyncio.timeout(deadline.within(_STALL_SECONDS).timeout):
            await context.write(message)
    except TimeoutError as error:
        raise DeadlineExceeded("the caller does not read what it is sent") from error


class _NotAroundStandardServices(grpc.aio.ServerInterceptor):
    """An interceptor of ours, left out for health and reflection: probes bring no keys along."""

    def __init__(self, inner: grpc.aio.ServerInterceptor) -> None:
        self._inner = inner

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """The method's handler, intercepted unless it is health's or reflection's."""
        _, service, _ = handler_call_details.method.split("/")
        if service in _STANDARD_SERVICES:
            return await continuation(handler_call_details)
        handler: Handler | None = await self._inner.intercept_service(
            continuation, handler_call_details
        )
        return handler


class _Watchers(grpc.aio.ServerInterceptor):
    """The health watchers' calls, which last as long as the server unless they are ended."""

    def __init__(self) -> None:
        self._calls: set[asyncio.Task[None]] = set()
        self._ended = False

    def end(self) -> None:
        """Ends them all with UNAVAILABLE."""
        self._ended = True
        for call in self._calls:
            call.cancel()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """The method's handler; health's Watch can be ended."""
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method != _WATCH:
            return handler
        return wrapped(handler, self._endable)

    @asynccontextmanager
    async def _endable(self, context: Context) -> AsyncIterator[None]:
        call: Any = asyncio.current_task()
        self._calls.add(call)
        try:
            yield
        except asyncio.CancelledError:
            if not self._ended:
                raise
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the server has stopped")
        finally:
            self._calls.remove(call)


def _options(max_message_bytes: int) -> list[tuple[str, int]]:
    return [
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_receive_message_length", max_message_bytes),
        # A port in use is an error, not a second server that takes half of the calls.
        ("grpc.so_reuseport", 0),
        # A caller that vanished without notice is detected, and its work freed.
        ("grpc.keepalive_time_ms", _KEEPALIVE_SECONDS * 1000),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_SECONDS * 1000),
        # What callers may hold without asking for anything is bounded.
        ("grpc.max_allowed_incoming_connections", MAX_CONNECTIONS),
        ("grpc.max_connection_idle_ms", _IDLE_SECONDS * 1000),
        ("grpc.max_connection_age_ms", _AGE_SECONDS * 1000),
        ("grpc.max_connection_age_grace_ms", _AGE_SECONDS * 1000),
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE_SECONDS * 1000),
        # Callers may probe twice as often as our own channels do.
        ("grpc.http2.min_ping_interval_without_data_ms", PROBE_SECONDS * 500),
    ]
