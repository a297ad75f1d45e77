"""The HTTP server under the metrics: what it takes and refuses, and what strangers can hold."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from http import HTTPStatus
from typing import Final

import pytest

from specfuse.config.addresses import listening_socket
from specfuse.observability import http_server
from specfuse.observability.http_server import Bounds, HttpServer, Request, Response
from tests.support.http_caller import PATIENCE_SECONDS, answer_to, calling

GET = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
SECRET = "tell-nobody"


async def echo(request: Request) -> Response:
    """Says what it understood."""
    headers = ";".join(f"{name}={value}" for name, value in sorted(request.headers.items()))
    return Response.of_text(HTTPStatus.OK, f"{request.method} {request.path} {headers}")


@asynccontextmanager
async def serving(
    answer: Callable[[Request], Awaitable[Response]] = echo, bounds: Bounds | None = None
) -> AsyncIterator[str]:
    """The address of a server that answers so."""
    listener = listening_socket("127.0.0.1", 0)
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    server = HttpServer(answer, bounds)
    await server.start(listener)
    try:
        yield address
    finally:
        await asyncio.wait_for(server.stop(), PATIENCE_SECONDS)


class Gate:
    """Holds answers until it is opened."""

    def __init__(self) -> None:
        self.held = asyncio.Semaphore(0)
        self.given_up = asyncio.Semaphore(0)
        self.opened = asyncio.Event()

    async def answer(self, request: Request) -> Response:
        self.held.release()
        try:
            await self.opened.wait()
        except asyncio.CancelledError:
            self.given_up.release()
            raise
        return await echo(request)


class TestRequests:
    @pytest.mark.parametrize(
        ("request_", "understood"),
        [
            ("GET / HTTP/1.1\r\n\r\n", "GET / "),
            ("GET / HTTP/1.0\r\n\r\n", "GET / "),
            ("BREW /tea/pot?q=1#x HTTP/1.1\r\n\r\n", "BREW /tea/pot "),
            ("GET http://host:1/a HTTP/1.1\r\n\r\n", "GET /a "),
            ("GET / HTTP/1.1\r\nACCEPT: a\r\nAccept:b \r\nx:\r\n\r\n", "GET / accept=a, b ;x="),
            ("GET / HTTP/1.1\r\na: \xe9\r\n\r\n", "GET / a=\xe9"),
        ],
    )
    async def test_their_method_path_and_headers_are_understood(
        self, request_: str, understood: str
    ) -> None:
        async with serving() as address:
            response = await answer_to(address, request_.encode("latin-1"))
        assert response.status == 200
        assert response.body.decode() == f"OK: {understood}\n"
        assert response.headers["content-length"] == str(len(response.body))
        assert response.headers["connection"] == "close"

    async def test_they_may_come_in_pieces(self) -> None:
        async with serving() as address, calling(address) as caller:
            for byte in GET:
                await caller.send(bytes([byte]))
            assert (await caller.response()).status == 200

    async def test_the_answer_to_head_has_no_body(self) -> None:
        async with serving() as address:
            response = await answer_to(address, GET.replace(b"GET", b"HEAD"))
        assert response.headers["content-length"] == str(len("OK: HEAD / host=here\n"))
        assert response.body == b""

    @pytest.mark.parametrize(
        "request_",
        [
            "",
            "GET /",
            "GET / HTTP/2.0",
            "GET  / HTTP/1.1",
            "GET / x HTTP/1.1",
            "GET /\x00 HTTP/1.1",
            "GET /\xe9 HTTP/1.1",
            "G(T / HTTP/1.1",
            "GET http://[ HTTP/1.1",
            "PRI * HTTP/2.0",
            "GET / HTTP/1.1\r\nno colon",
            "GET / HTTP/1.1\r\n: no name",
            "GET / HTTP/1.1\r\na : b",
            "GET / HTTP/1.1\r\na: b\r\n folded: c",
            "GET / HTTP/1.1\r\na: \x00",
            "GET / HTTP/1.1\r\na: b\nc: d",
            "\x16\x03\x01\x02 TLS",
        ],
    )
    async def test_malformed_ones_are_refused(self, request_: str) -> None:
        async with serving() as address:
            response = await answer_to(address, f"{request_}\r\n\r\n".encode("latin-1"))
        assert response.status == 400

    @pytest.mark.parametrize("size", [20_000, 400_000])
    async def test_too_large_a_head_is_refused_in_words_that_arrive(self, size: int) -> None:
        async with serving() as address:
            response = await answer_to(address, GET[:-2] + b"x: " + b"y" * size + b"\r\n\r\n")
        assert response.status == 431

    async def test_a_body_is_left_unread_and_the_answer_arrives_all_the_same(self) -> None:
        async with serving() as address:
            post = b"POST / HTTP/1.1\r\nContent-Length: 400000\r\n\r\n"
            response = await answer_to(address, post + b"b" * 400_000)
        assert response.status == 200

    async def test_one_that_breaks_the_answer_gets_500_and_no_more(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def breaks(_request: Request) -> Response:
            raise KeyError("inner")

        async with serving(breaks) as address:
            response = await answer_to(address, GET.replace(b"here", SECRET.encode()))
        assert response.status == 500
        assert response.body == b"Internal Server Error\n"
        assert "KeyError" in caplog.text
        assert SECRET not in caplog.text

    async def test_nothing_of_them_is_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        async with serving() as address:
            for request in (f"GET /{SECRET} HTTP/1.1\r\na: {SECRET}", f"{SECRET}\r\n{SECRET}"):
                await answer_to(address, f"{request}\r\n\r\n".encode())
            async with calling(address, SECRET.encode()):
                pass
        assert SECRET not in caplog.text


class TestBounds:
    @pytest.mark.parametrize("said", [b"", GET[:-1], GET.partition(b"H")[0]])
    async def test_a_request_that_does_not_come_to_its_end_is_given_up(self, said: bytes) -> None:
        async with (
            serving(bounds=Bounds(request_seconds=0.1)) as address,
            calling(address, said) as caller,
        ):
            assert (await caller.response()).status == 408

    async def test_trickling_wins_no_time(self) -> None:
        async with (
            serving(bounds=Bounds(request_seconds=0.3)) as address,
            calling(address, GET[:-2]) as caller,
        ):
            answer = asyncio.create_task(caller.response())
            while not answer.done():
                await caller.send(b"x: y\r\n")
                await asyncio.sleep(0.02)
            assert (await answer).status == 408

    async def test_a_caller_that_does_not_read_is_cut_off(self) -> None:
        gate, large = Gate(), Response(HTTPStatus.OK, bytes(50_000_000))

        async def answer(request: Request) -> Response:
            await gate.answer(request)
            return large

        async with (
            serving(answer, Bounds(response_seconds=0.1)) as address,
            calling(address, GET) as caller,
        ):
            await asyncio.wait_for(gate.held.acquire(), PATIENCE_SECONDS)
            caller.writer.transport.pause_reading()
            gate.opened.set()
            await asyncio.wait(visits(), timeout=PATIENCE_SECONDS)
            caller.writer.transport.resume_reading()
            assert len(await caller.rest()) < len(large.body)

    async def test_a_caller_that_stays_after_its_answer_is_cut_off(self) -> None:
        async with (
            serving(bounds=Bounds(leaving_seconds=0.1)) as address,
            calling(address, GET) as caller,
        ):
            assert (await caller.response()).status == 200
            _, staying = await asyncio.wait(visits(), timeout=PATIENCE_SECONDS)
            assert not staying

    async def test_more_than_are_answered_at_once_are_refused(self) -> None:
        gate = Gate()
        async with (
            serving(gate.answer, Bounds(answers=1)) as address,
            calling(address, GET) as first,
        ):
            await asyncio.wait_for(gate.held.acquire(), PATIENCE_SECONDS)
            assert (await answer_to(address, GET)).status == 503
            gate.opened.set()
            assert (await first.response()).status == 200
            assert (await answer_to(address, GET)).status == 200

    async def test_who_goes_is_not_answered_and_makes_room(self) -> None:
        """Else whoever asks again and again, and waits too short a time, would be refused."""
        gate = Gate()
        async with serving(gate.answer, Bounds(answers=1)) as address:
            async with calling(address, GET):
                await asyncio.wait_for(gate.held.acquire(), PATIENCE_SECONDS)
            await asyncio.wait_for(gate.given_up.acquire(), PATIENCE_SECONDS)
            gate.opened.set()
            assert (await answer_to(address, GET)).status == 200

    async def test_who_sends_on_and_on_is_answered(self) -> None:
        gate = Gate()
        async with serving(gate.answer) as address, calling(address, GET) as caller:
            await asyncio.wait_for(gate.held.acquire(), PATIENCE_SECONDS)
            await caller.send(b"?" * 4096)
            gate.opened.set()
            assert (await caller.response()).status == 200

    async def test_without_room_whoever_was_waited_for_longest_makes_way(self) -> None:
        async with AsyncExitStack() as stack:
            address = await stack.enter_async_context(serving(bounds=Bounds(connections=2)))
            first, second, third = [
                await stack.enter_async_context(calling(address, GET[:-2])) for _ in range(3)
            ]
            assert (await first.response()).status == 503
            await second.send(b"\r\n")
            assert (await second.response()).status == 200
            await third.send(b"\r\n")
            assert (await third.response()).status == 200

    async def test_who_is_being_answered_makes_way_for_nobody(self) -> None:
        gate = Gate()
        async with AsyncExitStack() as stack:
            bounds = Bounds(connections=2, answers=1)
            address = await stack.enter_async_context(serving(gate.answer, bounds))
            answered = await stack.enter_async_context(calling(address, GET))
            await asyncio.wait_for(gate.held.acquire(), PATIENCE_SECONDS)
            silent, _ = [await stack.enter_async_context(calling(address)) for _ in range(2)]
            assert (await silent.response()).status == 503
            gate.opened.set()
            assert (await answered.response()).status == 200

    async def test_stopping_waits_for_nobody(self) -> None:
        gate = Gate()
        async with AsyncExitStack() as stack:
            async with serving(gate.answer) as address:
                said = (b"", GET[:-2], GET)
                callers = [await stack.enter_async_context(calling(address, one)) for one in said]
                await asyncio.wait_for(gate.held.acquire(), PATIENCE_SECONDS)
            assert [await caller.rest() for caller in callers] == [b""] * len(said)
            with pytest.raises(ConnectionRefusedError):
                await answer_to(address, GET)

    @pytest.mark.parametrize("turns", range(6))
    async def test_who_comes_as_it_stops_is_turned_away(self, turns: int) -> None:
        """However far the loop is in letting the caller in."""
        with socket.socket() as caller:
            async with serving() as address:
                connect(caller, address)
                for _ in range(turns):
                    await asyncio.sleep(0)
            await turned_away(caller)

    async def test_stopping_again_is_of_no_consequence(self) -> None:
        server = HttpServer(echo)
        await server.stop()
        await server.start(listening_socket("127.0.0.1", 0))
        await server.stop()
        await server.stop()

    async def test_without_a_descriptor_a_caller_waits_until_there_is_one(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(http_server, "_PAUSE_SECONDS", 0.01)
        async with serving() as address:
            with socket.socket() as caller:
                with out_of_descriptors():
                    connect(caller, address)
                    while not caplog.messages:  # noqa: ASYNC110 (what is waited for is a turn)
                        await asyncio.sleep(0)
                caller.sendall(GET)
                caller.settimeout(PATIENCE_SECONDS)
                answer = await asyncio.to_thread(caller.recv, 1024)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert "Too many open files" in caplog.text

    async def test_it_can_stop_while_it_lets_nobody_in(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        with socket.socket() as caller:
            async with serving() as address:
                with out_of_descriptors():
                    connect(caller, address)
                    while not caplog.messages:  # noqa: ASYNC110 (what is waited for is a turn)
                        await asyncio.sleep(0)
            await turned_away(caller)


async def turned_away(caller: socket.socket) -> None:
    """Returns once the other side has closed the connection, without a word."""
    caller.settimeout(PATIENCE_SECONDS)
    with suppress(ConnectionResetError):
        assert await asyncio.to_thread(caller.recv, 1) == b""


def connect(caller: socket.socket, address: str) -> None:
    """Has the system connect; the server need not have let it in yet."""
    host, _, port = address.rpartition(":")
    caller.connect((host, int(port)))


ALWAYS_OPEN: Final = 3
"""The descriptors that every process has: its input, its output, and its errors."""


@contextmanager
def out_of_descriptors() -> Iterator[None]:
    """While the process may open nothing more.

    Not even in the place of what it closes meanwhile: threads that other tests have left do that.
    """
    few, many = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (ALWAYS_OPEN, many))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (few, many))


def visits() -> list[asyncio.Task[object]]:
    """The server's tasks, of which every connection has one."""
    return [task for task in asyncio.all_tasks() if "HttpServer._visit" in repr(task.get_coro())]
