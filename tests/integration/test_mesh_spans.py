"""The spans of calls to a member over real gRPC: one for each attempt, and what it takes along."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import grpc
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    format_span_id,
    format_trace_id,
)

from fuser_service.core.types import Candidate, Context
from model_service.backends.scripted.settings import Line
from specfuse.deadline import Deadline
from specfuse.errors import InvalidArgument, Unavailable
from specfuse.observability.tracing import spans
from specfuse.observability.tracing.conventions import CANCELLED, ERROR_TYPE
from tests.support.fuser_mesh import PATIENCE_SECONDS, Node, Nodes
from tests.support.grpc_member import ask, go_on, member_of, ranked_first
from tests.support.recorded_spans import RecordedSpans

ANSWER = Line(answer="so it is")
PROPOSE = "specfuse.v1.ModelService/ProposeSegment"
STREAM = "specfuse.v1.ModelService/StreamCalls"
SCORE = "specfuse.v1.ModelService/ScoreSegments"


class Overheard(grpc.aio.ServerInterceptor):
    """Keeps the metadata that calls of the model service bring along."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Mapping[str, Any]]] = []

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        details = handler_call_details
        self.calls.append((details.method, dict(details.invocation_metadata)))
        return await continuation(details)

    def parents(self) -> dict[str, str | None]:
        """By method, the `traceparent` of its last call."""
        return {method: metadata.get("traceparent") for method, metadata in self.calls}


@pytest.fixture
async def nodes() -> AsyncIterator[Nodes]:
    async with Nodes() as nodes:
        yield nodes


def attempts(recorder: RecordedSpans) -> list[ReadableSpan]:
    """The spans of calls, in the order in which they began."""
    return sorted(recorder.ended(PROPOSE, SCORE), key=lambda one: one.start_time or 0)


async def test_a_call_is_a_span_that_goes_along_with_it(nodes: Nodes) -> None:
    overheard, recorder = Overheard(), RecordedSpans()
    node = await nodes.start("a", ANSWER, interceptors=(overheard,))
    async with member_of(node, tracer=recorder.tracer) as member:
        query = member.join("s")
        with recorder.caller() as caller:
            await go_on(query)
            candidates = [Candidate("so", finished=False)]
            await query.score(
                Context("?", (), "s"), candidates, deadline=Deadline.after(PATIENCE_SECONDS)
            )
    proposing, scoring = attempts(recorder)
    host, port = node.address.split(":")
    for span, name in ((proposing, PROPOSE), (scoring, SCORE)):
        assert span.parent == caller.get_span_context()
        assert (span.name, span.kind) == (name, SpanKind.CLIENT)
        assert span.attributes == {
            "rpc.system.name": "grpc",
            "rpc.method": name,
            "rpc.response.status_code": "OK",
            "server.address": host,
            "server.port": int(port),
            "specfuse.member": "a",
        }
        own, flags = format_span_id(span.context.span_id), span.context.trace_flags
        parent = f"00-{format_trace_id(span.context.trace_id)}-{own}-{flags:02x}"
        assert overheard.parents()[f"/{name}"] == parent


async def test_who_is_not_traced_is_not_traced_further_on_either(nodes: Nodes) -> None:
    overheard, recorder = Overheard(), RecordedSpans()
    node = await nodes.start("a", ANSWER, interceptors=(overheard,))
    unsampled = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(0))
    async with member_of(node, tracer=recorder.tracer) as member:
        with spans.current(NonRecordingSpan(unsampled)):
            await ask(member)
    assert not attempts(recorder)
    assert overheard.parents()[f"/{STREAM}"] is None


async def test_no_trace_is_begun_for_a_call(nodes: Nodes) -> None:
    overheard, recorder = Overheard(), RecordedSpans()
    node = await nodes.start("a", ANSWER, interceptors=(overheard,))
    async with member_of(node, tracer=recorder.tracer) as member:
        await ask(member)
    assert not recorder.ended()
    assert overheard.parents()[f"/{STREAM}"] is None


async def test_a_call_that_moves_is_a_span_at_each_replica(nodes: Nodes) -> None:
    failing = await nodes.start("a", Line(fails="unavailable"))
    working = await nodes.start("a", ANSWER)
    recorder = RecordedSpans()
    async with member_of(failing, working, tracer=recorder.tracer) as member:
        with recorder.caller():
            await ask(member, ranked_first(failing, working))
    first, second = attempts(recorder)
    assert told(first, failing) == ("UNAVAILABLE", "UNAVAILABLE", None)
    assert first.status.status_code is StatusCode.ERROR
    assert told(second, working) == ("OK", None, "moved")


async def test_who_loses_a_race_is_cancelled(nodes: Nodes) -> None:
    slow = await nodes.start("a", ANSWER, hold_from=0)
    fast = await nodes.start("a", ANSWER)
    recorder = RecordedSpans()
    async with member_of(slow, fast, tracer=recorder.tracer) as member:
        with recorder.caller():
            await ask(member, ranked_first(slow, fast))
    first, second = attempts(recorder)
    assert told(first, slow) == ("CANCELLED", None, None)
    assert first.attributes[CANCELLED] is True
    assert first.status.status_code is StatusCode.UNSET
    assert told(second, fast) == ("OK", None, "hedged")
    assert CANCELLED not in second.attributes


async def test_a_caller_that_goes_away_leaves_no_span_open(nodes: Nodes) -> None:
    node = await nodes.start("a", ANSWER, hold_from=0)
    recorder = RecordedSpans()
    async with member_of(node, tracer=recorder.tracer) as member:
        with recorder.caller():
            asked = asyncio.create_task(ask(member))
        await node.comes_to_wait()
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        (attempt,) = attempts(recorder)
        assert told(attempt, node) == ("CANCELLED", None, None)
        assert attempt.attributes[CANCELLED] is True


async def test_an_error_is_told_by_its_reason_and_not_in_its_words(nodes: Nodes) -> None:
    node = await nodes.start("a", Line(when="this only", answer="x"))
    recorder = RecordedSpans()
    async with member_of(node, tracer=recorder.tracer) as member:
        with recorder.caller(), pytest.raises(InvalidArgument, match="no line of the script"):
            await ask(member)
    (attempt,) = attempts(recorder)
    assert told(attempt, node) == ("INVALID_ARGUMENT", "INVALID_ARGUMENT", None)
    assert "no line of the script" not in attempt.to_json()


async def test_where_there_is_nobody_to_call_there_is_no_call(nodes: Nodes) -> None:
    recorder = RecordedSpans()
    async with member_of(tracer=recorder.tracer) as member:
        with recorder.caller(), pytest.raises(Unavailable):
            await ask(member)
    assert not attempts(recorder)


def told(span: ReadableSpan, node: Node) -> tuple[object, object, object]:
    """How an attempt at the node ended: gRPC's status, the error; and why it was made."""
    attributes = span.attributes or {}
    host, port = node.address.split(":")
    assert (attributes["server.address"], attributes["server.port"]) == (host, int(port))
    keys = ("rpc.response.status_code", ERROR_TYPE, "specfuse.second_call")
    status, error, why = (attributes.get(key) for key in keys)
    return status, error, why
