"""An HTTP server whose answers a test may spoil: what the fakes of inference servers stand on.

A fake has the paths and the JSON of the real server, on a real port, and works on a request only
for as long as its client is there.
"""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Self

import h11

PATIENCE_SECONDS: Final = 20.0
"""How long a test waits for what must happen."""

_CHUNK_BYTES: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Asked:
    """A request. `body` is what its JSON holds, None if it has none."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True, slots=True)
class Answer:
    """A response: JSON, unless `content` is given as bytes."""

    content: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def raw(self) -> bytes:
        """As it is sent. NaN is written as Python writes it, which no client should take."""
        content = self.content
        return content if isinstance(content, bytes) else json.dumps(content).encode()


class FakeServer(ABC):
    """A server on a port of its own, from when its context is entered.

    `trouble` may be set at any time, to None or to one of `troubles`; those of every fake are

        hang        a request for work is never answered
        garbage     it is answered with what is no JSON
        dies        its answer breaks off in the middle
        broken      it is answered with status 500
        overloaded  it is refused, as the real server does when it is full
    """

    work: ClassVar[frozenset[str]]
    """The paths of requests that the model works for; troubles are theirs."""
    troubles: ClassVar[frozenset[str]] = frozenset(
        {"hang", "garbage", "dies", "broken", "overloaded"}
    )

    def __init__(self, port: int = 0) -> None:
        self.asked: list[Asked] = []
        """Every request so far."""
        self.working = 0
        """Requests for work that have no answer yet, and whose client is still there."""
        self.key: str | None = None
        """The key that requests must bring."""
        self._trouble: str | None = None
        self._moved = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._port = port

    @property
    def url(self) -> str:
        """Where it listens, or did."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def trouble(self) -> str | None:
        """What is wrong with it."""
        return self._trouble

    @trouble.setter
    def trouble(self, trouble: str | None) -> None:
        assert trouble is None or trouble in self.troubles, trouble
        self._trouble = trouble

    def bodies(self, path: str) -> list[Any]:
        """The bodies of the requests for a path, in order."""
        return [asked.body for asked in self.asked if asked.path == path]

    def knows(self, asked: Asked) -> bool:
        """Whether a request brings the key."""
        return self.key is None or asked.headers.get("authorization") == f"Bearer {self.key}"

    async def until_working(self, requests: int) -> None:
        """Returns once it works on so many requests."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.working != requests:
                self._moved.clear()
                await self._moved.wait()

    async def start(self) -> None:
        """Listens, again where it did before."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Goes away as a process does that is killed: every connection breaks."""
        if self._server is not None:
            self._server.close()
            self._server = None
        connections = dict(self._connections)
        for task, writer in connections.items():
            writer.transport.abort()
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @abstractmethod
    async def answer(self, asked: Asked) -> Answer:
        """What the real server answers."""

    @abstractmethod
    def overloaded(self) -> Answer:
        """What the real server answers when it is full."""

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = writer
        try:
            await self._serve(_Stream(reader, writer))
        except (ConnectionError, h11.RemoteProtocolError, _ClientGone, asyncio.CancelledError):
            pass  # asyncio takes a connection's cancelled task for an error of its own
        finally:
            del self._connections[task]
            writer.transport.abort()

    async def _serve(self, stream: _Stream) -> None:
        while (asked := await stream.request()) is not None:
            self.asked.append(asked)
            answer = await stream.while_there(self._answered(asked))
            breaks_off = self.trouble == "dies" and asked.path in self.work
            await stream.respond(answer, breaks_off=breaks_off)
            if breaks_off:
                return

    async def _answered(self, asked: Asked) -> Answer:
        if asked.path not in self.work:
            return await self.answer(asked)
        async with self._at_work():
            match self.trouble:
                case "hang":
                    await asyncio.Event().wait()
                case "garbage":
                    return Answer(b"<html>It works!</html>")
                case "broken":
                    return Answer({"detail": "something broke"}, 500)
                case "overloaded":
                    return self.overloaded()
            return await self.answer(asked)

    @asynccontextmanager
    async def _at_work(self) -> AsyncIterator[None]:
        self.working += 1
        self._moved.set()
        try:
            yield
        finally:
            self.working -= 1
            self._moved.set()


class _ClientGone(Exception):
    """Nobody waits for the answer any more."""


class _Stream:
    """One connection, on which requests come one after another."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.SERVER)

    async def request(self) -> Asked | None:
        """The next request, None if there is none."""
        if self._http.our_state is h11.DONE:
            self._http.start_next_cycle()
        head = await self._event()
        if not isinstance(head, h11.Request):
            return None
        body = bytearray()
        while isinstance(event := await self._event(), h11.Data):
            body += event.data
        return Asked(
            method=head.method.decode(),
            path=head.target.decode(),
            headers={name.decode(): value.decode() for name, value in head.headers},
            body=json.loads(body) if body else None,
        )

    async def while_there(self, work: Any) -> Answer:
        """The outcome of work, which is cancelled if the client goes."""
        working = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(self._reader.read(1))
        try:
            await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise _ClientGone
            return working.result()
        finally:
            working.cancel()
            gone.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.gather(working, gone, return_exceptions=True)

    async def respond(self, answer: Answer, *, breaks_off: bool) -> None:
        """Sends the response, or the half of it."""
        raw = answer.raw
        headers = {
            "content-type": "application/json",
            "content-length": str(len(raw)),
            **answer.headers,
        }
        self._send(h11.Response(status_code=answer.status, headers=list(headers.items())))
        self._send(h11.Data(data=raw[: len(raw) // 2] if breaks_off else raw))
        if not breaks_off:
            self._send(h11.EndOfMessage())
        await self._writer.drain()

    def _send(self, event: h11.Response | h11.Data | h11.EndOfMessage) -> None:
        self._writer.write(self._http.send(event) or b"")

    async def _event(self) -> Any:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._reader.read(_CHUNK_BYTES))
        return event
