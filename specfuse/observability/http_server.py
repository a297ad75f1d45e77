"""As much of HTTP/1.1 as a scraper needs, with a bound on all that strangers can hold.

A connection is for one request. Whoever keeps us waiting is cut off after some seconds, and sooner
if there is no room for somebody else. Nothing of a request is logged.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import Final, Self
from urllib.parse import urlsplit

_WORD: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE: Final = re.compile(rf"({_WORD}) ([!-~]+) HTTP/1\.[01]")
_HEADER: Final = re.compile(rf"({_WORD}):[ \t]*([\t -~\x80-\xff]*)")
_END_OF_HEAD: Final = b"\r\n\r\n"
_LEFTOVER_READS: Final = 64
"""So much of what comes after a request's head is read and dropped, at most `head_bytes` each: once
while it is answered, and once before the connection is closed."""
_PAUSE_SECONDS: Final = 1.0
"""For so long nobody is let in once the system has refused to: it is out of descriptors, say."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What strangers can hold at most."""

    connections: int = 64
    """When there are more, whoever has kept us waiting longest makes way."""
    answers: int = 16
    """Requests that are being answered at the same time; further ones are refused.

    Fewer than connections, so that always somebody can make way.
    """
    head_bytes: int = 16_384
    """Bytes of a request's first line and headers."""
    request_seconds: float = 5.0
    """How long the head of a request may take to arrive."""
    response_seconds: float = 10.0
    """How long a caller may take to read the response."""
    leaving_seconds: float = 1.0
    """How long it may then take to close the connection."""


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request. A body is not read."""

    method: str
    path: str
    """Without the query."""
    headers: Mapping[str, str]
    """By name, in lower case. Those that came several times are joined with commas."""


@dataclass(frozen=True, slots=True)
class Response:
    """What is answered."""

    status: HTTPStatus
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_text(cls, status: HTTPStatus, text: str = "", **headers: str) -> Self:
        """The status in words; `text` says more."""
        said = f"{status.phrase}: {text}" if text else status.phrase
        return cls(
            status, f"{said}\n".encode(), {"Content-Type": "text/plain; charset=utf-8"} | headers
        )

    def encoded(self, *, with_body: bool = True) -> bytes:
        """As it goes over the wire."""
        headers = {
            **self.headers,
            "Content-Length": str(len(self.body)),
            "Date": formatdate(usegmt=True),
            "Connection": "close",
        }
        lines = (f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"HTTP/1.1 {self.status} {self.status.phrase}\r\n{''.join(lines)}\r\n"
        return head.encode("latin-1") + (self.body if with_body else b"")


_BUSY: Final = Response.of_text(HTTPStatus.SERVICE_UNAVAILABLE, "too many requests at once")


class HttpServer:
    """Answers in the running event loop, from `start` to `stop`.

    It accepts by itself, as asyncio's own server forgets whom it lets in while it is closed.
    """

    def __init__(
        self, answer: Callable[[Request], Awaitable[Response]], bounds: Bounds | None = None
    ) -> None:
        """Prepares a server. If `answer` raises, that is logged, and the caller gets a 500."""
        self._answer = answer
        self._bounds = bounds or Bounds()
        self._visits: set[asyncio.Task[None]] = set()
        self._waited_for: dict[asyncio.StreamWriter, Response | None] = {}
        self._answering = 0
        self._listener: socket.socket | None = None
        self._pause: asyncio.TimerHandle | None = None

    async def start(self, listener: socket.socket) -> None:
        """Serves at the socket, which listens, and which is closed at the end."""
        listener.settimeout(0.0)
        self._listener = listener
        self._let_in(listener)

    async def stop(self) -> None:
        """Closes the port and every connection, at once. Idempotent."""
        if self._listener is not None:
            self._close_port(self._listener)
            self._listener = None
        visits = tuple(self._visits)
        for visit in visits:
            visit.cancel()
        await asyncio.gather(*visits, return_exceptions=True)

    def _let_in(self, listener: socket.socket) -> None:
        asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _close_port(self, listener: socket.socket) -> None:
        if self._pause is not None:
            self._pause.cancel()
        asyncio.get_running_loop().remove_reader(listener)
        listener.close()

    def _accept(self, listener: socket.socket) -> None:
        """Lets one caller in. From here on it is a visit's, which `stop` ends."""
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # it went away meanwhile
        except OSError as error:
            _logger.warning("for a moment nobody is let in: %s", error.strerror)
            loop = asyncio.get_running_loop()
            loop.remove_reader(listener)
            self._pause = loop.call_later(_PAUSE_SECONDS, self._let_in, listener)
            return
        connection.settimeout(0.0)
        visit = asyncio.create_task(self._visit(connection))
        self._visits.add(visit)
        visit.add_done_callback(self._visits.discard)
        visit.add_done_callback(lambda _: connection.close())  # it may not even have begun

    async def _visit(self, connection: socket.socket) -> None:
        """One connection, from its first byte to its end."""
        with suppress(OSError, EOFError):  # gone, or out of time
            reader, writer = await asyncio.open_connection(
                sock=connection, limit=self._bounds.head_bytes
            )
            try:
                self._make_room()
                response = await self._response(reader, writer)
                await self._send(response, reader, writer)
            finally:
                writer.transport.abort()

    def _make_room(self) -> None:
        """Cuts off whom we wait for longest, if there are too many."""
        if len(self._waited_for) + self._answering < self._bounds.connections:
            return
        writer = next(iter(self._waited_for))
        farewell = self._waited_for.pop(writer)
        if farewell is not None:
            writer.write(farewell.encoded())
        writer.transport.abort()

    @contextmanager
    def _waiting_for(
        self, writer: asyncio.StreamWriter, farewell: Response | None = None
    ) -> Iterator[None]:
        """While it is the caller's turn. `farewell` is for a caller that must make way."""
        self._waited_for[writer] = farewell
        try:
            yield
        finally:
            self._waited_for.pop(writer, None)

    async def _response(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        try:
            with self._waiting_for(writer, farewell=_BUSY):
                async with asyncio.timeout(self._bounds.request_seconds):
                    head = await reader.readuntil(_END_OF_HEAD)
            request = _parsed(head)
        except TimeoutError:
            return Response.of_text(HTTPStatus.REQUEST_TIMEOUT).encoded()
        except asyncio.LimitOverrunError:
            return Response.of_text(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE).encoded()
        except ValueError:
            return Response.of_text(HTTPStatus.BAD_REQUEST).encoded()
        response = await self._answered_while_there(request, reader)
        return response.encoded(with_body=request.method != "HEAD")

    async def _answered_while_there(
        self, request: Request, reader: asyncio.StreamReader
    ) -> Response:
        """Gives up the answer when the caller goes: else those behind it would wait for it, too.

        Raises:
            EOFError: the caller has gone.
        """
        answer = asyncio.create_task(self._answered(request))
        leaving = asyncio.create_task(self._has_left(reader))
        try:
            await asyncio.wait({answer, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done() and leaving.result():
                raise EOFError
            return await answer
        finally:
            answer.cancel()
            leaving.cancel()
            await asyncio.gather(answer, leaving, return_exceptions=True)

    async def _has_left(self, reader: asyncio.StreamReader) -> bool:
        """Drops what else comes, and says whether it ended: False if it is too much."""
        for _ in range(_LEFTOVER_READS):
            if not await reader.read(self._bounds.head_bytes):
                return True
        return False

    async def _answered(self, request: Request) -> Response:
        if self._answering >= self._bounds.answers:
            return _BUSY
        self._answering += 1
        try:
            return await self._answer(request)
        except Exception:
            _logger.exception("a request could not be answered")
            return Response.of_text(HTTPStatus.INTERNAL_SERVER_ERROR)
        finally:
            self._answering -= 1

    async def _send(
        self, response: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Sends it all, and waits for the caller to close the connection.

        To close it with something unread would have the caller's system drop the response.
        """
        writer.transport.set_write_buffer_limits(high=0)  # so that drain waits for the last byte
        with self._waiting_for(writer):
            async with asyncio.timeout(self._bounds.response_seconds):
                writer.write(response)
                await writer.drain()
            async with asyncio.timeout(self._bounds.leaving_seconds):
                writer.write_eof()
                await self._has_left(reader)


def _parsed(head: bytes) -> Request:
    """The request.

    Raises:
        ValueError: it is malformed.
    """
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    request = _REQUEST_LINE.fullmatch(first)
    if request is None:
        raise ValueError("the first line is not METHOD TARGET HTTP/1.1")
    headers: dict[str, str] = {}
    for line in lines:
        header = _HEADER.fullmatch(line)
        if header is None:
            raise ValueError("a line is not NAME: VALUE")
        name = header[1].lower()
        headers[name] = f"{headers[name]}, {header[2]}" if name in headers else header[2]
    return Request(request[1], urlsplit(request[2]).path, headers)
