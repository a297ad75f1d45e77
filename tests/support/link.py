"""A network link to a server, which a test can break in the ways that networks break."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Self

_CHUNK_BYTES = 64 * 1024
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: on, for no time, so that closing sends RST."""


class Link:
    """Forwards TCP connections from an address of its own to `target`.

    Frozen, it swallows everything, as a black hole does: connections stay open, and nothing comes.
    Slow, everything comes `delay_seconds` later; dripping, so does every piece of `drip_bytes`.
    Refusing, new connections are not accepted. `accepted` counts connections, `held_up` the pieces
    that did not come through at once.
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._server: asyncio.Server | None = None
        self._listening = ("127.0.0.1", 0)
        self._connections: set[_Connection] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.delay_seconds = 0.0
        self.drip_bytes: int | None = None
        self.accepted = 0
        self.held_up = 0

    @property
    def address(self) -> str:
        """Where to connect."""
        host, port = self._listening
        return f"{host}:{port}"

    @property
    def connections(self) -> int:
        """Connections that are open."""
        return len(self._connections)

    def lead_to(self, target: str) -> None:
        """From now on new connections lead there; those that are open stay."""
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))

    def reset(self) -> None:
        """Breaks every connection with a TCP reset, to both sides."""
        for connection in list(self._connections):
            connection.reset()

    def freeze(self) -> None:
        """From now on nothing comes through."""
        self._flowing.clear()

    def thaw(self) -> None:
        """What was held up comes through, and all that follows."""
        self._flowing.set()

    async def refuse(self) -> None:
        """From now on connections are refused; those that are open stay."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def accept(self) -> None:
        """Accepts connections, again where it did before."""
        host, port = self._listening
        self._server = await asyncio.start_server(self._connected, host, port)
        self._listening = self._server.sockets[0].getsockname()[:2]

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.refuse()
        self.reset()
        self.thaw()
        await asyncio.gather(*(one.ended.wait() for one in list(self._connections)))

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """The data as it comes through: whole, unless it drips."""
        size = self.drip_bytes or len(data)
        return (data[start : start + size] for start in range(0, len(data), size))

    async def pass_on(self, send: Callable[[], None]) -> None:
        """Sends when the link lets it."""
        self.held_up += bool(self.delay_seconds) or not self._flowing.is_set()
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)
        await self._flowing.wait()
        send()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            to_reader, to_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        connection = _Connection(self, writer, to_writer)
        self._connections.add(connection)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(connection.forward(reader, to_writer))
                group.create_task(connection.forward(to_reader, writer))
        finally:
            self._connections.discard(connection)
            connection.end()


class _Connection:
    """One connection through the link."""

    def __init__(self, link: Link, *writers: asyncio.StreamWriter) -> None:
        self._link = link
        self._writers = writers
        self.ended = asyncio.Event()

    async def forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Passes on what comes from one side until it ends."""
        with suppress(OSError):
            while data := await reader.read(_CHUNK_BYTES):
                for piece in self._link.pieces(data):
                    await self._link.pass_on(lambda piece=piece: writer.write(piece))
                    await writer.drain()
        self.end()

    def reset(self) -> None:
        """Breaks it off."""
        for writer in self._writers:
            sock = writer.get_extra_info("socket")
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()

    def end(self) -> None:
        """Closes both sides."""
        for writer in self._writers:
            writer.close()
        self.ended.set()
