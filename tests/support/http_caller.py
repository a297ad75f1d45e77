"""Raw HTTP over real connections: what no decent client would send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from http.client import HTTPResponse
from io import BytesIO

PATIENCE_SECONDS = 20.0
"""How long a test waits for what must happen."""


class Caller:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Sends it, or as much as the other side takes."""
        with suppress(ConnectionError):
            self.writer.write(data)
            await self.writer.drain()

    async def rest(self) -> bytes:
        """All that is still to come until the other side closes the connection."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.reader.read()

    async def response(self) -> Parsed:
        """The response, after which the other side must close the connection."""
        return Parsed(await self.rest())


class Parsed:
    """A response as the standard library understands it."""

    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        response = HTTPResponse(_Received(head + b"\r\n\r\n"))
        response.begin()
        self.status = response.status
        self.headers = response.headers


class _Received:
    """What `HTTPResponse` takes for a socket."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, _mode: str) -> BytesIO:
        return BytesIO(self._data)


@asynccontextmanager
async def calling(address: str, data: bytes = b"") -> AsyncIterator[Caller]:
    """A connection on which the data has been sent."""
    host, _, port = address.rpartition(":")
    caller = Caller(*await asyncio.open_connection(host, int(port)))
    try:
        await caller.send(data)
        yield caller
    finally:
        caller.writer.transport.abort()


async def answer_to(address: str, data: bytes) -> Parsed:
    """The response to the bytes of a request."""
    async with calling(address, data) as caller:
        return await caller.response()
