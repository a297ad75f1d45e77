"""A reverse proxy that meddles with what a real server answers, or loses it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import httpx2

PATIENCE_SECONDS: Final = 60.0


@dataclass
class Answer:
    """What the server answers, to be changed."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)

    def json(self) -> Any:
        return json.loads(self.body)

    def say(self, value: object) -> None:
        self.body = json.dumps(value).encode()


Meddle = Callable[[Answer], None]


class Between:
    """Stands between a caller and a server. What befalls the requests to `paths` can be changed."""

    def __init__(self, target: str) -> None:
        self._target = target
        self.url = ""
        self.meddle: Meddle | None = None
        """Changes the answers of the server."""
        self.hangs = False
        """Takes requests, and never passes them on."""
        self.breaks_off = False
        """Closes the connection half-way through an answer."""
        self.spared: frozenset[str] = frozenset()
        """Paths that nothing befalls."""
        self.headers: list[Mapping[str, str]] = []
        """Of all requests."""
        self.asked: list[str] = []
        """The paths of all requests."""
        self.working = 0
        self._changed = asyncio.Condition()
        self._writers: set[asyncio.StreamWriter] = set()

    async def until_working(self, count: int) -> None:
        """Returns once the server works on so many requests that something befalls."""
        async with asyncio.timeout(PATIENCE_SECONDS), self._changed:
            await self._changed.wait_for(lambda: self.working == count)

    def drop_connections(self) -> None:
        """Closes all connections, as a server does that ends."""
        for writer in self._writers:
            writer.close()

    def retarget(self, target: str) -> None:
        """Another server in the same place: the old one's connections are closed."""
        self._target = target
        self.drop_connections()

    async def _served(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            async with self._changed:
                self._writers.discard(writer)
                self._changed.notify_all()

    async def _end(self) -> None:
        """Closes all connections, and returns when nobody is served any more."""
        self.drop_connections()
        async with self._changed:
            await self._changed.wait_for(lambda: not self._writers)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Passes on a request and its answer. Whether the connection goes on."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, path, _ = head[0].split(" ")
        headers = {
            name.lower(): value for name, _, value in (h.partition(": ") for h in head[1:] if h)
        }
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.headers.append(headers)
        self.asked.append(path)
        befalls = path not in self.spared
        await self._count(befalls)
        gone = asyncio.create_task(reader.read(1))  # callers do not send ahead: it is the end
        asking = asyncio.create_task(self._asked(method, path, headers, body, befalls))
        try:
            await asyncio.wait({gone, asking}, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                return False
            answer = asking.result()
        finally:
            for task in (gone, asking):
                task.cancel()
            await asyncio.gather(gone, asking, return_exceptions=True)
            await self._count(befalls, -1)
        return await self._answer(writer, answer, befalls)

    async def _count(self, befalls: bool, change: int = 1) -> None:
        async with self._changed:
            self.working += change * befalls
            self._changed.notify_all()

    async def _asked(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, befalls: bool
    ) -> Answer:
        if befalls and self.hangs:
            await asyncio.Event().wait()
        kept = {k: v for k, v in headers.items() if k in ("content-type", "authorization")}
        async with httpx2.AsyncClient(trust_env=False, timeout=PATIENCE_SECONDS) as client:
            try:
                response = await client.request(
                    method, f"{self._target}{path}", content=body, headers=kept
                )
            except httpx2.TransportError:
                return Answer(502, b"the server is gone")
        answer = Answer(response.status_code, response.content)
        if befalls and self.meddle is not None:
            self.meddle(answer)
        return answer

    async def _answer(self, writer: asyncio.StreamWriter, answer: Answer, befalls: bool) -> bool:
        lines = [f"HTTP/1.1 {answer.status} X", f"Content-Length: {len(answer.body)}"]
        lines += [f"{name}: {value}" for name, value in answer.headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        whole = not (befalls and self.breaks_off)
        writer.write(answer.body if whole else answer.body[: len(answer.body) // 2])
        await writer.drain()
        return whole


@asynccontextmanager
async def between(target: str) -> AsyncIterator[Between]:
    """A proxy on a free port, in front of the server at the URL `target`."""
    proxy = Between(target)
    server = await asyncio.start_server(proxy._served, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    proxy.url = f"http://{host}:{port}"
    try:
        yield proxy
    finally:
        server.close()
        await proxy._end()
        await server.wait_closed()
