"""The span of each gRPC call, however it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode

from specfuse.errors import NotFound, Unavailable
from specfuse.observability.tracing.current import trace_id
from specfuse.rpc.channels import open_channel
from specfuse.v1 import fuser_service_pb2 as pb
from specfuse.v1.fuser_service_pb2_grpc import FuserServiceStub
from tests.support.fuser_door import ScriptedFuser, finished, open_door, script, segment
from tests.support.recorded_spans import RecordedSpans

PARENT = ("traceparent", f"00-{'a' * 32}-{'b' * 16}-01")
GENERATE = "specfuse.v1.FuserService/Generate"


@asynccontextmanager
async def served(fuser: ScriptedFuser, spans: RecordedSpans) -> AsyncIterator[grpc.aio.Channel]:
    async with (
        open_door(fuser, tracing=spans.of_requests) as server,
        open_channel(server.address) as channel,
    ):
        yield channel


async def answer(channel: grpc.aio.Channel, **call: Any) -> list[pb.GenerateResponse]:
    return [one async for one in FuserServiceStub(channel).Generate(pb.GenerateRequest(), **call)]


async def test_a_call_has_a_span_in_the_trace_of_its_caller() -> None:
    spans = RecordedSpans()
    current: list[str] = []

    async def generate(request: Any, context: Any) -> AsyncIterator[pb.GenerateResponse]:
        for number in range(1, 3):
            current.append(trace_id())
            yield segment(number, "a")
        current.append(trace_id())
        yield finished()

    async with served(ScriptedFuser(generate), spans) as channel:
        await answer(channel, metadata=(PARENT,))
        await FuserServiceStub(channel).ListEnsembles(pb.ListEnsemblesRequest())
    span, other = await spans.next(), await spans.next()
    assert (span.name, span.kind) == (GENERATE, SpanKind.SERVER)
    assert span.attributes == {
        "rpc.system.name": "grpc",
        "rpc.method": GENERATE,
        "rpc.response.status_code": "OK",
    }
    assert span.parent is not None
    assert (span.parent.trace_id, span.parent.span_id) == (int("a" * 32, 16), int("b" * 16, 16))
    assert current == ["a" * 32] * 3
    assert other.parent is None
    assert other.context.trace_id != span.context.trace_id
    assert trace_id() == ""


@pytest.mark.parametrize(
    ("error", "status", "reason", "code"),
    [
        (NotFound("no secret"), "NOT_FOUND", "NOT_FOUND", StatusCode.UNSET),
        (Unavailable("secret"), "UNAVAILABLE", "UNAVAILABLE", StatusCode.ERROR),
        (ValueError("secret"), "INTERNAL", "INTERNAL", StatusCode.ERROR),
    ],
)
async def test_an_error_is_told_by_its_reason_and_nothing_it_says(
    error: Exception, status: str, reason: str, code: StatusCode
) -> None:
    spans = RecordedSpans()
    async with served(ScriptedFuser(script(segment(1, "a"), error)), spans) as channel:
        with pytest.raises(grpc.RpcError):
            await answer(channel)
    span = await spans.next()
    assert (span.attributes or {})["rpc.response.status_code"] == status
    assert (span.attributes or {})["error.type"] == reason
    assert span.status.status_code is code
    assert "secret" not in span.to_json()


async def test_the_log_of_a_failed_call_has_its_trace(caplog: pytest.LogCaptureFixture) -> None:
    spans = RecordedSpans()
    seen: list[str] = []
    caplog.handler.addFilter(lambda _: bool(seen.append(trace_id())) or True)
    async with served(ScriptedFuser(script(ValueError())), spans) as channel:
        with pytest.raises(grpc.RpcError):
            await answer(channel, metadata=(PARENT,))
    assert "a" * 32 in seen


class Endless:
    """An answer that never ends, and is known to have begun."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()

    async def __call__(self, request: Any, context: Any) -> AsyncIterator[pb.GenerateResponse]:
        yield segment(1, "a")
        self.begun.set()
        await asyncio.Event().wait()


async def test_a_call_that_its_caller_gave_up_has_a_span_that_says_so() -> None:
    spans, endless = RecordedSpans(), Endless()
    async with served(ScriptedFuser(endless), spans) as channel:
        call = FuserServiceStub(channel).Generate(pb.GenerateRequest())
        await endless.begun.wait()
        call.cancel()
        span = await spans.next()
    assert (span.attributes or {})["specfuse.cancelled"] is True
    assert (span.attributes or {})["rpc.response.status_code"] == "CANCELLED"
    assert span.status.status_code is StatusCode.UNSET


async def test_a_call_whose_deadline_passed_is_in_error() -> None:
    spans = RecordedSpans()
    async with served(ScriptedFuser(Endless()), spans) as channel:
        with pytest.raises(grpc.RpcError):
            await answer(channel, timeout=0.3)
        span = await spans.next()
    assert (span.attributes or {})["rpc.response.status_code"] == "DEADLINE_EXCEEDED"
    assert (span.attributes or {})["error.type"] == "DEADLINE_EXCEEDED"
    assert "specfuse.cancelled" not in (span.attributes or {})
    assert span.status.status_code is StatusCode.ERROR


async def test_a_call_that_the_end_of_the_server_cut_off_says_so() -> None:
    spans, endless = RecordedSpans(), Endless()
    async with (
        open_door(ScriptedFuser(endless), tracing=spans.of_requests) as server,
        open_channel(server.address) as channel,
    ):
        call = FuserServiceStub(channel).Generate(pb.GenerateRequest())
        await endless.begun.wait()
        await server.stop()
        assert ((await spans.next()).attributes or {})["specfuse.cancelled"] is True
        call.cancel()


@pytest.mark.parametrize("wrong", ["", "nonsense", f"00-{'0' * 32}-{'b' * 16}-01", "é" * 9])
async def test_a_bad_parent_is_none(wrong: str) -> None:
    spans = RecordedSpans()
    async with served(ScriptedFuser(script(finished())), spans) as channel:
        header = ("traceparent", wrong.encode("ascii", "replace").decode())
        assert await answer(channel, metadata=(header, ("tracestate", "x" * 5000)))
    assert (await spans.next()).parent is None


async def test_probes_have_none() -> None:
    spans = RecordedSpans()
    async with served(ScriptedFuser(), spans) as channel:
        await HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        await FuserServiceStub(channel).ListEnsembles(pb.ListEnsemblesRequest())
    assert (await spans.next()).name == "specfuse.v1.FuserService/ListEnsembles"


async def test_a_trace_that_is_not_recorded_goes_on_unrecorded() -> None:
    spans = RecordedSpans(ALWAYS_OFF)
    seen: list[str] = []

    async def generate(request: Any, context: Any) -> AsyncIterator[pb.GenerateResponse]:
        seen.append(trace_id())
        yield finished()

    async with served(ScriptedFuser(generate), spans) as channel:
        await answer(channel)
    assert len(seen[0]) == 32
    assert spans.none_left()
