"""An HTTP server's life: bind, serve, drain, stop. Any ASGI application, in the running event loop.

Uvicorn speaks the protocol; its own server, which takes over signals and exits the process, is not
used. h11 rather than httptools, as it bounds the head of a request and is strict about the rest;
what it costs is little beside the decoding of a token.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Coroutine
from contextlib import suppress
from email.utils import formatdate
from typing import Any, Final, TypeAlias

from uvicorn.config import Config
from uvicorn.server import ServerState

from specfuse.config.addresses import host_and_port, listening_socket
from specfuse.errors import Misconfigured
from specfuse.http.bodies import Message, Receive, Send
from specfuse.http.bounds import Bounds
from specfuse.http.connection import CONNECTION, BoundedConnection
from specfuse.http.handshakes import TlsListener

Application: TypeAlias = Callable[[Any, Receive, Send], Coroutine[Any, Any, None]]

DRAINING: Final = "draining"
"""Where a scope's `state` says whether the server takes no new requests any more."""

_FLUSH_SECONDS: Final = 5.0
_UNWIND_SECONDS: Final = 5.0
_logger = logging.getLogger(__name__)


class HttpServer:
    """Serves an ASGI application at one address.

    When the time to drain is up, the tasks of requests that are still being answered are cancelled.
    An application may then say to its caller how to go on, within seconds.
    """

    def __init__(
        self,
        application: Application,
        listen: str = "127.0.0.1:0",
        *,
        tls: ssl.SSLContext | None = None,
        bounds: Bounds | None = None,
        malformed: Callable[[], bytes] = lambda: b"",
        setting: str = "listen",
    ) -> None:
        """Prepares a server; nothing is bound before `start`.

        Args:
            application: What answers.
            listen: `host:port`; port 0 takes a free one.
            tls: The server's end of each connection. None is plain text.
            bounds: What callers can hold.
            malformed: The response, head and all, to what is no HTTP.
            setting: What `listen` is called in the settings.
        """
        self._application = application
        self._listen = listen
        self._tls = tls
        self._bounds = bounds or Bounds()
        self._malformed = malformed
        self._setting = setting
        self._state = ServerState()
        self._draining = False
        self._server: asyncio.Server | TlsListener | None = None
        self._address = ""

    @property
    def address(self) -> str:
        """`host:port` as bound; empty before `start`."""
        return self._address

    @property
    def connections(self) -> int:
        """Connections that stand."""
        return len(self._state.connections)

    async def start(self) -> None:
        """Binds and serves.

        Raises:
            Misconfigured: the address is malformed or taken.
        """
        host, port = host_and_port(self._listen, self._setting)
        try:
            listener = listening_socket(host, port)
        except OSError as error:
            raise Misconfigured(
                f"{self._setting}: cannot bind {self._listen}: {error.strerror}; choose another "
                "address, or port 0 for a free port",
                listen=self._listen,
            ) from error
        self._server = await self._accepting(listener)
        self._address = f"{host}:{listener.getsockname()[1]}"
        _logger.info("serving HTTP%s on %s", "" if self._tls is None else "S", self._address)

    async def _accepting(self, listener: socket.socket) -> asyncio.Server | TlsListener:
        config = _config(self._served, self._bounds)

        def accepted() -> BoundedConnection:
            return BoundedConnection(config, self._state, self._bounds, self._malformed)

        if self._tls is None:
            return await asyncio.get_running_loop().create_server(accepted, sock=listener)
        return TlsListener(listener, accepted, self._tls, self._bounds, _FLUSH_SECONDS)

    async def drain(self, grace_seconds: float) -> None:
        """Ends gracefully: no new connections, then no new requests, then what is in flight ends.

        Cancelling the drain stops at once.
        """
        self._draining = True
        if self._server is None:
            return
        self._server.close()
        _logger.info("draining %s: %d requests in flight", self._address, len(self._state.tasks))
        for connection in self._connections():
            connection.finish()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(grace_seconds):
                    await self._none_in_flight()
        finally:
            for task in self._state.tasks:
                task.cancel()
            with suppress(TimeoutError):
                async with asyncio.timeout(_UNWIND_SECONDS):
                    await self._none_in_flight()
            await self._close(_FLUSH_SECONDS if grace_seconds else 0.0)

    async def stop(self) -> None:
        """Ends at once, cancelling what is in flight. Idempotent."""
        await self.drain(0.0)

    async def _none_in_flight(self) -> None:
        while self._state.tasks:
            await asyncio.wait(set(self._state.tasks))

    async def _close(self, flush_seconds: float) -> None:
        """Closes what stands, once what was written has been taken, or the time for it is up."""
        connections = self._connections()
        for connection in connections:
            connection.finish()
        with suppress(TimeoutError):
            async with asyncio.timeout(flush_seconds):
                for connection in connections:
                    await connection.closed.wait()
        for connection in connections:
            connection.abort()

    def _connections(self) -> list[BoundedConnection]:
        return [one for one in self._state.connections if isinstance(one, BoundedConnection)]

    async def _served(self, scope: Any, receive: Receive, send: Send) -> None:  # noqa: ANN401
        """Has the application answer one request."""
        connection: BoundedConnection = scope["state"][CONNECTION]
        scope["state"][DRAINING] = self._draining
        complete = False

        async def sent(message: Message) -> None:
            nonlocal complete
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self._own_headers(scope)]
            await send(message)
            complete = message["type"] == "http.response.body" and not message.get("more_body")

        try:
            await self._application(scope, receive, sent)
        except asyncio.CancelledError:
            _logger.debug("a request was ended by the drain")
        except Exception as error:  # noqa: BLE001 (an application reports its own; this is a bug)
            _logger.error("an answer was broken off by %s", type(error).__qualname__)  # noqa: TRY400
        if not complete:
            connection.abort()
            await _gone(receive)

    def _own_headers(self, scope: Any) -> list[tuple[bytes, bytes]]:  # noqa: ANN401
        headers = [(b"date", formatdate(usegmt=True).encode())]
        if self._draining or _has_two_lengths(scope):
            headers.append((b"connection", b"close"))
        return headers


def _has_two_lengths(scope: Any) -> bool:  # noqa: ANN401
    """Whether somebody before us may have seen another end of the request than we (RFC 9112, 6.1).

    What follows on such a connection may be smuggled, and is not read.
    """
    names = {name for name, _ in scope["headers"]}
    return {b"content-length", b"transfer-encoding"} <= names


async def _gone(receive: Receive) -> None:
    """Returns once the connection is closed."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _config(application: Application, bounds: Bounds) -> Config:
    config = Config(
        application,
        http=BoundedConnection,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="error",  # it warns of every stranger that speaks no HTTP
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=int(bounds.idle_seconds) + 1,
        h11_max_incomplete_event_size=bounds.head_bytes,
    )
    config.load()
    return config
