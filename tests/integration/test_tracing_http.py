"""The span of each request to the API, however it ends, and its ids in what is answered."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from typing import Any, Literal

import httpx2
import openai
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id

from fuser_service.fusion.events import Event
from specfuse.errors import InvalidArgument, QuorumLost, Unavailable
from specfuse.observability.tracing.current import trace_id
from tests.support.http_caller import calling
from tests.support.openai_door import HELLO, STARTED, committed, finished, open_played
from tests.support.recorded_spans import RecordedSpans

ASK: dict[str, Any] = {"model": "all", "messages": HELLO}
CHAT = "/v1/chat/completions"
PARENT = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
ANSWER: tuple[Event, ...] = (STARTED, committed(1, "Hello"), finished())


def told(span: ReadableSpan) -> Mapping[str, Any]:
    """What a span says, but for the request's id."""
    return {key: value for key, value in (span.attributes or {}).items() if "request_id" not in key}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_has_a_span_in_the_trace_of_its_caller(*, stream: bool) -> None:
    spans = RecordedSpans()
    async with open_played(*ANSWER, tracing=spans.of_requests) as door, door.sdk() as sdk:
        raw = await sdk.chat.completions.with_raw_response.create(
            **ASK, stream=stream, extra_headers=PARENT
        )
        if stream:
            assert [chunk async for chunk in raw.parse()]
        span = await spans.next()
    assert (span.name, span.kind) == (f"POST {CHAT}", SpanKind.SERVER)
    assert told(span) == {
        "http.request.method": "POST",
        "http.route": CHAT,
        "http.response.status_code": 200,
    }
    assert span.parent is not None
    assert format_span_id(span.parent.span_id) == "b" * 16
    ids = f"{'a' * 32}-{format_span_id(span.context.span_id)}"
    assert raw.headers["x-request-id"] == ids
    assert (span.attributes or {})["specfuse.request_id"] == ids
    assert [account.request_id for account in door.told.accounts] == [ids]
    assert trace_id() == ""


async def test_a_caller_keeps_its_own_id_and_the_span_has_it() -> None:
    spans = RecordedSpans()
    async with open_played(*ANSWER, tracing=spans.of_requests) as door, door.sdk() as sdk:
        raw = await sdk.chat.completions.with_raw_response.create(
            **ASK, extra_headers={"x-request-id": "mine"}
        )
        span = await spans.next()
    assert raw.headers["x-request-id"] == "mine"
    assert (span.attributes or {})["specfuse.request_id"] == "mine"
    assert span.parent is None


async def test_the_context_is_there_in_each_step_of_an_answer() -> None:
    spans, seen = RecordedSpans(), []
    async with open_played(*ANSWER, tracing=spans.of_requests) as door, door.sdk() as sdk:
        run = door.fusion.run

        async def watched(*arguments: Any) -> Any:
            try:
                async for event in run(*arguments):
                    seen.append(trace_id())
                    yield event
            finally:
                seen.append(trace_id())

        door.fusion.run = watched  # type: ignore[method-assign]
        await sdk.chat.completions.create(**ASK, extra_headers=PARENT)
    assert seen == ["a" * 32] * 4


@pytest.mark.parametrize(
    ("error", "status", "reason", "code"),
    [
        (Unavailable("secret"), 503, "UNAVAILABLE", StatusCode.ERROR),
        (InvalidArgument("prompt", "secret"), 400, "INVALID_ARGUMENT", StatusCode.UNSET),
        (ValueError("secret"), 500, "INTERNAL", StatusCode.ERROR),
    ],
)
async def test_an_error_is_told_by_its_reason_and_nothing_it_says(
    error: Exception, status: int, reason: str, code: StatusCode
) -> None:
    spans = RecordedSpans()
    async with open_played(error, tracing=spans.of_requests) as door, door.sdk() as sdk:
        with pytest.raises(openai.APIStatusError):
            await sdk.chat.completions.create(**ASK)
        span = await spans.next()
    assert told(span)["http.response.status_code"] == status
    assert told(span)["error.type"] == reason
    assert span.status.status_code is code
    assert "secret" not in span.to_json()
    assert "Hello" not in span.to_json()


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"model": "secret"}, "NOT_FOUND"),
        ({"temperature": "secret"}, "INVALID_ARGUMENT"),
        ({"messages": [{"role": "secret", "content": "secret"}]}, "INVALID_ARGUMENT"),
        ({"secret": 1, "stop": "secret", "max_tokens": -1}, "INVALID_ARGUMENT"),
    ],
)
async def test_nothing_of_what_is_wrong_with_a_request_is_told(
    changed: dict[str, Any], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    spans = RecordedSpans()
    async with open_played(*ANSWER, tracing=spans.of_requests) as door:
        async with calling(door.address, request(CHAT, {**ASK, **changed})) as caller:
            await caller.response()
        span = await spans.next()
    assert told(span)["error.type"] == reason
    assert "secret" not in span.to_json() + caplog.text


async def test_a_stream_that_fails_after_its_status_is_in_error() -> None:
    spans = RecordedSpans()
    events = (STARTED, committed(1, "Hello"), QuorumLost("secret"))
    async with open_played(*events, tracing=spans.of_requests) as door, door.sdk() as sdk:
        with pytest.raises(openai.APIError):
            async for _ in await sdk.chat.completions.create(**ASK, stream=True):
                pass
        span = await spans.next()
    assert told(span)["http.response.status_code"] == 200
    assert told(span)["error.type"] == "QUORUM_LOST"
    assert span.status.status_code is StatusCode.ERROR


async def test_a_stream_that_a_bug_breaks_off_is_in_error_and_nobody_gave_it_up() -> None:
    spans = RecordedSpans()
    events = (STARTED, committed(1, "Hello"), ValueError("secret"))
    async with open_played(*events, tracing=spans.of_requests) as door, door.sdk() as sdk:
        with pytest.raises((openai.APIError, httpx2.RemoteProtocolError)):
            async for _ in await sdk.chat.completions.create(**ASK, stream=True):
                pass
        span = await spans.next()
    assert told(span)["error.type"] == "ValueError"
    assert span.status.status_code is StatusCode.ERROR
    assert "specfuse.cancelled" not in told(span)
    assert "secret" not in span.to_json()


class Held(asyncio.Event):
    """Something that never comes about, and is known to be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = asyncio.Event()

    async def wait(self) -> Literal[True]:
        self.reached.set()
        return await super().wait()


def request(path: str, body: Any, method: str = "POST") -> bytes:
    """A request as it goes over the wire."""
    content = json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
    head += f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    return head.encode() + content


@pytest.mark.parametrize("stream", [False, True])
async def test_a_caller_that_goes_away_leaves_a_span_that_says_so(
    caplog: pytest.LogCaptureFixture, *, stream: bool
) -> None:
    spans = RecordedSpans()
    held = Held()
    events = (STARTED, committed(1, "Hello"), held)
    async with open_played(*events, tracing=spans.of_requests) as door:
        async with calling(door.address, request(CHAT, {**ASK, "stream": stream})):
            await held.reached.wait()
        span = await spans.next()
    assert told(span)["specfuse.cancelled"] is True
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]


async def test_what_nobody_has_to_follow_has_no_span_and_no_strangers_path_is_told() -> None:
    spans = RecordedSpans()
    async with open_played(tracing=spans.of_requests) as door:
        for path in ("/healthz", "/readyz", "/", "/v2/secret"):
            async with calling(door.address, request(path, {}, "GET")) as caller:
                await caller.response()
        async with calling(door.address, request("/v1/secret", {}, "BREW")) as caller:
            await caller.response()
        span = await spans.next()
    assert (span.name, told(span)["http.request.method"]) == ("_OTHER", "_OTHER")
    assert told(span)["error.type"] == "404"
    assert "secret" not in span.to_json()
    assert spans.none_left()


async def test_a_route_is_called_as_its_metric_and_its_line_in_the_log_call_it() -> None:
    spans = RecordedSpans()
    async with open_played(tracing=spans.of_requests) as door:
        async with calling(door.address, request("/v1/models/secret", {}, "GET")) as caller:
            await caller.response()
        span = await spans.next()
    assert (span.name, told(span)["http.route"]) == ("GET /v1/models/{model}", "/v1/models/{model}")
    assert "secret" not in span.to_json()


@pytest.mark.parametrize("wrong", ["nonsense", f"00-{'0' * 32}-{'b' * 16}-01", "00-" * 200])
async def test_a_bad_parent_is_none(wrong: str) -> None:
    spans = RecordedSpans()
    headers = {"traceparent": wrong, "tracestate": "x" * 4000, "baggage": "y" * 4000}
    async with open_played(*ANSWER, tracing=spans.of_requests) as door, door.sdk() as sdk:
        await sdk.chat.completions.create(**ASK, extra_headers=headers)
        assert (await spans.next()).parent is None


async def test_a_request_that_is_not_recorded_has_the_ids_of_its_trace_all_the_same() -> None:
    spans = RecordedSpans(ALWAYS_OFF)
    async with open_played(*ANSWER, tracing=spans.of_requests) as door, door.sdk() as sdk:
        raw = await sdk.chat.completions.with_raw_response.create(**ASK)
    trace, _, span = raw.headers["x-request-id"].partition("-")
    assert int(trace, 16)
    assert int(span, 16)
    assert len(trace) == len(format_trace_id(0))
    assert spans.none_left()
