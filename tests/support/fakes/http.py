"""HTTP for servers that are made up: keeps connections, and ends work on what nobody waits for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Asked:
    """A request. Names of headers are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer. With `breaks_off`, the connection is lost in the midst of it."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    breaks_off: bool = False

    @classmethod
    def of_json(cls, content: Any, status: int = HTTPStatus.OK, **headers: str) -> Self:
        return cls(
            status, json.dumps(content).encode(), {"content-type": "application/json"} | headers
        )

    @classmethod
    def of_text(cls, content: str, status: int = HTTPStatus.OK) -> Self:
        return cls(status, content.encode(), {"content-type": "text/plain; charset=utf-8"})

    @property
    def encoded(self) -> bytes:
        headers = {**self.headers, "content-length": str(len(self.body))}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}\r\n{lines}\r\n"
        whole = head.encode() + self.body
        return whole[: len(whole) - 1 - len(self.body) // 2] if self.breaks_off else whole


class HttpFake:
    """Answers on a free port of this machine, as a context manager."""

    def __init__(self, answer: Callable[[Asked], Awaitable[Reply]]) -> None:
        self._answer = answer
        self._server: asyncio.Server | None = None
        self._visits: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Condition()
        self.working = 0
        """Requests that it is working on."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._welcome, "127.0.0.1", 0, limit=1 << 24)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for visit in self._visits:
            visit.cancel()
        await asyncio.gather(*self._visits, return_exceptions=True)

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def until(self, count: int) -> None:
        """Waits until it is working on so many requests."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.working == count)

    async def _count(self, more: int) -> None:
        async with self._changed:
            self.working += more
            self._changed.notify_all()

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visit = asyncio.ensure_future(self._visit(reader, writer))
        self._visits.add(visit)
        visit.add_done_callback(self._visits.discard)
        visit.add_done_callback(lambda _: writer.transport.abort())

    async def _visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, EOFError):
            while (reply := await self._replied(await _asked(reader), reader)) is not None:
                writer.write(reply.encoded)
                await writer.drain()
                if reply.breaks_off:
                    return

    async def _replied(self, asked: Asked, reader: asyncio.StreamReader) -> Reply | None:
        """The answer, or None if the caller has gone."""
        await self._count(1)
        work = asyncio.ensure_future(self._answer(asked))
        gone = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
            return await work if work.done() else None
        finally:
            for task in (work, gone):
                task.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)
            await self._count(-1)


async def _asked(reader: asyncio.StreamReader) -> Asked:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ")
    pairs = (line.partition(": ") for line in lines if line)
    headers = {name.lower(): value for name, _, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Asked(method, path, headers, body)
