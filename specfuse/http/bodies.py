"""Reading the bodies of requests, with a bound on each, on whose they are, and on the time."""

from __future__ import annotations

import asyncio
from collections import Counter
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
        self._held: Counter[str] = Counter()

    async def read(self, receive: Receive, announced: str, whose: str) -> bytes:
        """The whole body. `announced` is what the request says of its length, or empty.

        Of the room, those who are called the same, `whose`, have only a share.

        Raises:
            BodyRefused: it is too large (413), there is no room for it, of theirs (429) or at all
                (503), or it comes too slowly (408).
            CallerGone: it will not come.
        """
        if announced.isdecimal() and int(announced) > self._bounds.body_bytes:
            raise self._too_large(f"{int(announced)} bytes")
        body = bytearray()
        try:
            async with asyncio.timeout(self._bounds.body_seconds):
                while await self._read_on(receive, body, whose):
                    pass
        except TimeoutError:
            problem = f"the request was not complete after {self._bounds.body_seconds:g} s"
            raise BodyRefused(408, problem) from None
        finally:
            self._let_go(len(body), whose)
        return bytes(body)

    async def _read_on(self, receive: Receive, body: bytearray, whose: str) -> bool:
        """Adds what came; whether there is more."""
        message = await receive()
        if message["type"] == "http.disconnect":
            raise CallerGone
        came = message.get("body", b"")
        body += came
        self._held[whose] += len(came)
        if len(body) > self._bounds.body_bytes:
            raise self._too_large("larger")
        if self._held[whose] > self._bounds.share_bytes:
            said = "as much of other requests of yours is under way as may be; retry later"
            raise BodyRefused(429, said)
        if self._held.total() > self._bounds.bodies_bytes:
            raise BodyRefused(503, "there is no room for the request now; retry later")
        return bool(message.get("more_body", False))

    def _let_go(self, size: int, whose: str) -> None:
        self._held[whose] -= size
        if not self._held[whose]:
            del self._held[whose]

    def _too_large(self, size: str) -> BodyRefused:
        limit = self._bounds.body_bytes
        return BodyRefused(413, f"the body is {size}; at most {limit} bytes are allowed")
