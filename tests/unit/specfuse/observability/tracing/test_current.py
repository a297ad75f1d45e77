"""What is current within, and never anywhere else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext

from specfuse.observability.tracing.current import attached, span_id, trace_id

WITHIN = trace.set_span_in_context(NonRecordingSpan(SpanContext(0xABC, 0xDEF, is_remote=False)))


async def numbers() -> AsyncGenerator[int, None]:
    with attached(WITHIN):
        yield 1
        yield 2


def test_ids_are_those_of_the_current_span() -> None:
    assert (trace_id(), span_id()) == ("", "")
    with attached(WITHIN):
        assert (trace_id(), span_id()) == (f"{0xABC:032x}", f"{0xDEF:016x}")
        with attached(Context()):
            assert trace_id() == ""
        assert trace_id()
    assert trace_id() == ""


async def test_a_generator_that_another_task_closes_is_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun = numbers()
    await asyncio.create_task(anext(begun))  # type: ignore[arg-type]
    assert trace_id() == ""
    await asyncio.create_task(begun.aclose())
    assert contexts.get_current() == {}
    assert not caplog.records
