"""The spans of requests to the server that runs a model, over real HTTP, and what they carry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, format_span_id, format_trace_id

from model_service.backends.llama_cpp.settings import LlamaCppSection
from model_service.backends.remote.client import Request, ServerClient
from model_service.core.types import Context, ProposeRequest, Sampling
from specfuse.deadline import Deadline
from specfuse.errors import Overloaded, Unavailable
from specfuse.observability.tracing.conventions import CANCELLED, ERROR_TYPE
from tests.support.fakes.tgi import FakeTgi
from tests.support.observers import RecordingObserver
from tests.support.recorded_spans import RecordedSpans
from tests.support.tgi_backend import opened, tokenizer_of

PATIENCE = 30.0
SECRET = "Xyzzy"
POST = Request("propose", "/completion", {"prompt": SECRET})


@dataclass
class Server:
    """Answers every request with this status, or not at all; keeps the heads of requests.

    A connection that was asked `requests` times is closed when it is asked again.
    """

    status: str = "200 OK"
    hangs: bool = False
    requests: int = 1000
    port: int = 0
    heads: list[bytes] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def visited(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for _ in range(self.requests):
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                self.asked.set()
                if self.hangs:
                    await reader.read()
                body = f'{{"said": "{SECRET}"}}'
                head = f"HTTP/1.1 {self.status}\r\ncontent-length: {len(body)}\r\n\r\n"
                writer.write((head + body).encode())
                await writer.drain()
                if POST.path.encode() in self.heads[-1]:
                    await reader.readuntil(b"}")
            await reader.read(1)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def sent(self, header: bytes) -> list[bytes]:
        """The header's values in all requests."""
        lines = [line for head in self.heads for line in head.split(b"\r\n")]
        return [line.partition(b": ")[2] for line in lines if line.lower().startswith(header)]


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    async with await asyncio.start_server(server.visited, "127.0.0.1", 0) as listening:
        server.port = listening.sockets[0].getsockname()[1]
        yield server


@pytest.fixture
def recorder() -> RecordedSpans:
    return RecordedSpans()


@pytest.fixture
async def client(server: Server, recorder: RecordedSpans) -> AsyncIterator[ServerClient]:
    url = f"http://127.0.0.1:{server.port}"
    section = LlamaCppSection.model_validate({"url": url, "tokenizer": "any"})
    client = ServerClient(section, lambda _: None, RecordingObserver(), recorder.tracer)
    yield client
    await client.close()


async def ask(client: ServerClient, request: Request = POST) -> None:
    await client.json(request, Deadline.after(PATIENCE))


def only_request(recorder: RecordedSpans) -> ReadableSpan:
    span, caller = recorder.ended()
    assert caller.name == "caller"
    assert span.parent == caller.context
    return span


async def test_a_request_is_a_span_that_goes_along_with_it(
    client: ServerClient, server: Server, recorder: RecordedSpans
) -> None:
    with recorder.caller():
        await ask(client)
    span = only_request(recorder)
    assert (span.name, span.kind) == ("POST /completion", SpanKind.CLIENT)
    assert span.attributes == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "url.path": "/completion",
        "server.address": "127.0.0.1",
        "server.port": server.port,
    }
    trace, own = format_trace_id(span.context.trace_id), format_span_id(span.context.span_id)
    parent = f"00-{trace}-{own}-{span.context.trace_flags:02x}"
    assert server.sent(b"traceparent") == [parent.encode()]
    assert SECRET not in span.to_json()


async def test_outside_of_a_trace_there_is_none(
    client: ServerClient, server: Server, recorder: RecordedSpans
) -> None:
    await ask(client)
    assert not recorder.ended()
    assert not server.sent(b"traceparent")


async def test_calls_of_a_backend_have_the_spans_of_their_requests(
    recorder: RecordedSpans, tmp_path: Path
) -> None:
    tokenizer = tokenizer_of("llama", tmp_path)
    request = ProposeRequest(Context(f"The {SECRET} is", (), "s"), 4, Sampling(), ())
    async with FakeTgi() as fake, opened(fake.url, tokenizer, tracer=recorder.tracer) as backend:
        assert not recorder.ended(), "what it does for itself is not traced"
        with recorder.caller():
            await backend.propose(request, Deadline.after(PATIENCE))
    names = {one.name for one in recorder.ended()}
    assert names == {"POST /generate", "caller"}
    assert not any(SECRET in one.to_json() for one in recorder.ended())


async def test_a_refusal_is_told_by_its_status_and_reason(
    client: ServerClient, server: Server, recorder: RecordedSpans
) -> None:
    server.status = "503 Service Unavailable"
    with recorder.caller(), pytest.raises((Unavailable, Overloaded)) as refused:
        await ask(client)
    span = only_request(recorder)
    assert span.attributes["http.response.status_code"] == 503
    assert span.attributes[ERROR_TYPE] == refused.value.reason
    assert SECRET not in span.to_json()


async def test_a_request_made_once_more_says_so(
    client: ServerClient, server: Server, recorder: RecordedSpans
) -> None:
    look = Request("look", "/look")
    server.requests = 1
    await ask(client, look)
    with recorder.caller():
        await ask(client, look)
    span = only_request(recorder)
    assert span.name == "GET /look"
    assert span.attributes["http.response.status_code"] == 200
    assert span.attributes["http.request.resend_count"] == 1


async def test_a_caller_that_goes_away_leaves_no_span_open(
    client: ServerClient, server: Server, recorder: RecordedSpans
) -> None:
    server.hangs = True
    with recorder.caller():
        asking = asyncio.create_task(ask(client))
        await asyncio.wait_for(server.asked.wait(), PATIENCE)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    span = only_request(recorder)
    assert span.attributes[CANCELLED] is True
    assert "http.response.status_code" not in span.attributes
