"""Accepting connections over TLS, with a bound on those that have not shaken hands yet.

asyncio's own server tells nobody of a connection before its handshake is over, so that whoever
opens many and sends nothing would hold a descriptor for each.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from specfuse.http.bounds import Bounds

_PAUSE_SECONDS: Final = 1.0
"""For so long nothing is accepted once the system has refused to: it is out of descriptors, say."""


class TlsListener:
    """Accepts until it is closed. For one handshake too many, that of the oldest is given up."""

    def __init__(
        self,
        listener: socket.socket,
        accepted: Callable[[], asyncio.Protocol],
        tls: ssl.SSLContext,
        bounds: Bounds,
        shutdown_seconds: float,
    ) -> None:
        """Begins at once. `accepted` makes what is told of a connection whose handshake is over."""
        self._listener = listener
        self._accepted = accepted
        self._tls = tls
        self._bounds = bounds
        self._shutdown_seconds = shutdown_seconds
        self._loop = asyncio.get_running_loop()
        self._shaking: dict[asyncio.Task[None], None] = {}
        self._pause: asyncio.TimerHandle | None = None
        listener.settimeout(0.0)
        self._resume()

    def close(self) -> None:
        """Closes the port and what has not shaken hands. Connections stay. Idempotent."""
        if self._pause is not None:
            self._pause.cancel()
        if self._listener.fileno() >= 0:
            self._loop.remove_reader(self._listener)
        self._listener.close()
        for task in self._shaking:
            task.cancel()

    def _resume(self) -> None:
        self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # it went away meanwhile
        except OSError:
            self._loop.remove_reader(self._listener)
            self._pause = self._loop.call_later(_PAUSE_SECONDS, self._resume)
            return
        connection.settimeout(0.0)
        task = self._loop.create_task(self._shake_hands(connection))
        self._shaking[task] = None
        task.add_done_callback(lambda ended: self._shaking.pop(ended, None))
        if len(self._shaking) > self._bounds.connections:
            oldest = next(iter(self._shaking))
            del self._shaking[oldest]
            oldest.cancel()

    async def _shake_hands(self, connection: socket.socket) -> None:
        with suppress(OSError):  # no TLS, not in time, a certificate that is not trusted
            await self._loop.connect_accepted_socket(
                self._accepted,
                connection,
                ssl=self._tls,
                ssl_handshake_timeout=self._bounds.handshake_seconds,
                ssl_shutdown_timeout=self._shutdown_seconds,
            )
