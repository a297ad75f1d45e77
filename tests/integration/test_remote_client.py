"""How servers are asked over HTTP, whatever they are and whatever stands in their place."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from model_service.backends.llama_cpp.settings import LlamaCppSection
from model_service.backends.remote.client import Request, ServerClient
from specfuse.deadline import Deadline
from specfuse.errors import Misconfigured, SpecFuseError
from tests.support.certificates import Authority, Identity
from tests.support.observers import RecordingObserver

PATIENCE = 30.0
CONTENT = {"content": "yes"}
BODY = json.dumps(CONTENT).encode()
LENGTH = b"content-length: %d\r\n" % len(BODY)
ZIPPED = gzip.compress(BODY)
SHAPES = {
    "kept open": b"HTTP/1.1 200 OK\r\n" + LENGTH + b"\r\n" + BODY,
    "closed": b"HTTP/1.1 200 OK\r\nconnection: close\r\n" + LENGTH + b"\r\n" + BODY,
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\n" + BODY,
    "chunked": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    + b"3\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (BODY[:3], len(BODY) - 3, BODY[3:]),
    "gzip": b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n"
    + b"content-length: %d\r\n\r\n%b" % (len(ZIPPED), ZIPPED),
}


@asynccontextmanager
async def answering(raw: bytes, identity: Identity | None = None) -> AsyncIterator[str]:
    """The `host:port` of a server that says this to every request, and closes if it says so."""
    closes = b"close" in raw or b"HTTP/1.0" in raw

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(raw)
                await writer.drain()
                if closes:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    context = None
    if identity is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(identity.certificate, identity.key)
    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def asked(url: str, times: int = 1, **settings: str) -> object:
    section = LlamaCppSection.model_validate({"url": url, "tokenizer": "any"} | settings)
    client = ServerClient(section, lambda _refusal: None, RecordingObserver())
    try:
        for _ in range(times):
            found = await client.json(Request("look", "/"), Deadline.after(PATIENCE))
        return found
    finally:
        await client.close()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
async def test_every_shape_of_an_answer_is_read(shape: bytes) -> None:
    async with answering(shape) as address:
        assert await asked(f"http://{address}", times=2) == CONTENT


async def test_who_is_elsewhere_is_not_followed() -> None:
    moved = b"HTTP/1.1 301 Moved\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"
    async with answering(moved) as address:
        with pytest.raises(Misconfigured, match=r"url: .* elsewhere \(301 Moved Permanently\)"):
            await asked(f"http://{address}")


async def test_a_server_without_tls_is_named() -> None:
    class Speaks(asyncio.Protocol):
        """Answers whatever comes, as servers do that find a request malformed."""

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            assert isinstance(self.transport, asyncio.WriteTransport)
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")

    loop = asyncio.get_running_loop()
    async with await loop.create_server(Speaks, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Misconfigured, match=r"url: .* does not speak TLS; is it http://"):
            await asked(f"https://127.0.0.1:{port}")


async def test_tls_is_checked_by_the_authorities_given(tmp_path: Path) -> None:
    authority = Authority.create(tmp_path)
    trusted = {"ca_file": str(authority.certificate)}
    async with answering(SHAPES["kept open"], authority.issue("server")) as address:
        assert await asked(f"https://{address}", **trusted) == CONTENT
        with pytest.raises(Misconfigured, match=r"ca_file: .* these authorities vouch for"):
            await asked(f"https://{address}")
    async with answering(SHAPES["kept open"], authority.issue("other", "DNS:other")) as address:
        with pytest.raises(Misconfigured, match=r"url: .* not for this host"):
            await asked(f"https://{address}", **trusted)


async def test_plain_text_to_a_server_with_tls_is_no_answer(tmp_path: Path) -> None:
    identity = Authority.create(tmp_path).issue("server")
    async with answering(SHAPES["kept open"], identity) as address:
        with pytest.raises(SpecFuseError, match="broke off"):
            await asked(f"http://{address}")
