"""Reading the bodies of requests, with a bound on each, on all together, and on the time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from specfuse.http.bounds import Bounds

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]


class BodyRefused(Exception):
    """A body cannot be taken. `status` is HTTP's word for why."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class CallerGone(Exception):
    """The caller closed the connection before its request was complete."""


class Bodies:
    """Reads bodies for one server."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._held = 0

    async def read(self, receive: Receive, announced: str) -> bytes:
        """The whole body. `announced` is what the request says of its length, or empty.

        Raises:
            BodyRefused: it is too large (413), there is no room for it (503), or it comes too
                slowly (408).
            CallerGone: it will not come.
        """
        if announced.isdecimal() and int(announced) > self._bounds.body_bytes:
            raise self._too_large(f"{int(announced)} bytes")
        body = bytearray()
        try:
            async with asyncio.timeout(self._bounds.body_seconds):
                while await self._read_on(receive, body):
                    pass
        except TimeoutError:
            problem = f"the request was not complete after {self._bounds.body_seconds:g} s"
            raise BodyRefused(408, problem) from None
        finally:
            self._held -= len(body)
        return bytes(body)

    async def _read_on(self, receive: Receive, body: bytearray) -> bool:
        """Adds what came; whether there is more."""
        message = await receive()
        if message["type"] == "http.disconnect":
            raise CallerGone
        came = message.get("body", b"")
        body += came
        self._held += len(came)
        if len(body) > self._bounds.body_bytes:
            raise self._too_large("larger")
        if self._held > self._bounds.bodies_bytes:
            raise BodyRefused(503, "there is no room for the request now; retry later")
        return bool(message.get("more_body", False))

    def _too_large(self, size: str) -> BodyRefused:
        limit = self._bounds.body_bytes
        return BodyRefused(413, f"the body is {size}; at most {limit} bytes are allowed")
