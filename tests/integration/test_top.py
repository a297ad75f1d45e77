"""`specfuse top` over real HTTP: endpoints that come and go, and what is no endpoint at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from specfuse.cli.top import fetching, session
from specfuse.cli.top.fetching import MOST_BYTES, Unreachable, scrape
from specfuse.cli.top.scrapes import NotMetrics
from specfuse.cli.top.targets import Target
from specfuse.errors import InvalidArgument, Unavailable
from specfuse.observability.metrics_endpoint import MetricsEndpoint
from tests.support.played_mesh import PlayedFuser, PlayedModel

Speaker = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\n"


@asynccontextmanager
async def speaking(speak: Speaker) -> AsyncIterator[str]:
    """The address of a server that does so on each connection, and closes it."""

    async def welcome(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await speak(reader, writer)
        except ConnectionError:
            pass  # the caller has heard enough
        finally:
            writer.close()

    server = await asyncio.start_server(welcome, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


def saying(*pieces: bytes) -> Speaker:
    async def speak(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()

    return speak


async def silence(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def endless(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(OK + b"\r\n")
    while True:
        writer.write(b"specfuse_x 1\n" * 4096)
        await writer.drain()


@asynccontextmanager
async def serving(
    service: PlayedFuser | PlayedModel, listen: str = "127.0.0.1:0"
) -> AsyncIterator[str]:
    """The address of the service's real metrics endpoint."""
    endpoint = await MetricsEndpoint.start(listen, service.registry)
    try:
        yield endpoint.address
    finally:
        await endpoint.stop()


# --- one endpoint ---------------------------------------------------------------------------------


async def test_what_a_service_says_is_read() -> None:
    async with serving(PlayedModel()) as address:
        assert (await scrape(Target("model", address))).models == ("a",)


async def test_a_chunked_answer_is_read_as_proxies_give_it() -> None:
    body = b"specfuse_requests_in_flight 2\n"
    chunked = OK + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    async with speaking(saying(*(bytes([one]) for one in chunked))) as address:
        found = await scrape(Target("fuser", address))
    assert found.series["specfuse_requests_in_flight"] == {frozenset(): 2.0}


@pytest.mark.parametrize(
    ("speak", "says"),
    [
        (saying(), "it closed the connection"),
        (saying(OK + b"Content-Length: 99\r\n\r\nspecfuse_"), "it closed the connection"),
        (saying(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"), "it answers HTTP 503"),
    ],
)
async def test_who_does_not_answer_may_do_so_later(speak: Speaker, says: str) -> None:
    async with speaking(speak) as address:
        with pytest.raises(Unreachable, match=says):
            await scrape(Target("fuser", address))


@pytest.mark.parametrize(
    ("speak", "says"),
    [
        (saying(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), "it does not speak HTTP"),
        (saying(b"\x00\x00\x12\x04" + b"\0" * 40), "it does not speak HTTP"),
        (saying(OK + b"X: " + b"x" * 200_000), "it does not speak HTTP"),
        (
            saying(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"),
            "it answers HTTP 404 to /metrics",
        ),
        (saying(b"HTTP/1.1 302 No\r\nLocation: /a\r\n\r\n"), "it answers HTTP 302 to /metrics"),
        (saying(OK + b"\r\n\xff\xfe"), "not text"),
        (saying(OK + b"\r\nspecfuse_requests_in_flight{ 1\n"), "not in Prometheus' text format"),
        (saying(OK + b"\r\nnode_load1 1\n"), "not of SpecFuse"),
        (endless, f"more than {MOST_BYTES // 1024**2} MiB"),
    ],
)
async def test_what_is_no_endpoint_of_ours_is_refused(speak: Speaker, says: str) -> None:
    async with speaking(speak) as address:
        with pytest.raises(NotMetrics, match=says):
            await scrape(Target("fuser", address))


async def test_nobody_is_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "PATIENCE_SECONDS", 0.05)
    async with speaking(silence) as address:
        with pytest.raises(Unreachable, match=r"no answer within 0\.05 s"):
            await scrape(Target("fuser", address))


@pytest.mark.parametrize(
    ("address", "says"),
    [("127.0.0.1:1", "connection refused"), ("a..b:1", "not the name of a host")],
)
async def test_nobody_there(address: str, says: str) -> None:
    with pytest.raises(Unreachable, match=says):
        await scrape(Target("fuser", address))


# --- the command, where stdout is no terminal -----------------------------------------------------


def watched(*targets: Target) -> int:
    return session.watch(targets, 0.05, once=False)


async def test_it_is_once_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    async with serving(PlayedFuser()) as fuser, serving(PlayedModel()) as model:
        targets = Target("fuser", fuser), Target("model", model, "a")
        assert await asyncio.to_thread(watched, *targets) == 0
    said = capsys.readouterr().out
    assert "\x1b" not in said
    rows = ["ensemble", "all", "few", "together", "member", "a", "b", "model", "a"]
    assert [line.split()[0] for line in said.splitlines() if line] == ["over", *rows]


async def test_one_that_is_down_is_named_and_costs_the_exit_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with serving(PlayedFuser()) as fuser:
        down = Target("model", "127.0.0.1:1", "b")
        assert await asyncio.to_thread(watched, Target("fuser", fuser), down) == 1
    said = capsys.readouterr().out
    assert "✗ model b 127.0.0.1:1 is down: connection refused" in said
    assert "ensemble" in said


async def test_where_nobody_is_there_is_an_error() -> None:
    with pytest.raises(Unavailable, match=r"fuser 127\.0\.0\.1:1 is down: connection refused"):
        await asyncio.to_thread(watched, Target("fuser", "127.0.0.1:1"))


async def test_something_else_is_the_options_mistake() -> None:
    async with serving(PlayedModel()) as model:
        with pytest.raises(InvalidArgument, match=r"--fuser: .* that is a model's") as caught:
            await asyncio.to_thread(watched, Target("fuser", model))
    assert caught.value.field == "--fuser"


async def test_a_model_that_nobody_asked_for_is_not_missed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with serving(PlayedFuser()) as fuser:
        for address in ("127.0.0.1:1", fuser):  # nobody is there, or somebody else
            target = Target("model", address, optional=True)
            assert await asyncio.to_thread(watched, Target("fuser", fuser), target) == 0
    assert "✗" not in capsys.readouterr().out
