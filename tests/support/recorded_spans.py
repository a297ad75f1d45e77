"""Spans of this process, kept for a test to look at."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, Sampler

from specfuse.observability.tracing.requests import RequestSpans


class RecordedSpans(SpanExporter):
    """Makes spans by a tracer of the SDK, and has those that ended."""

    def __init__(self, sampler: Sampler = ALWAYS_ON, *, trust_callers: bool = True) -> None:
        provider = TracerProvider(ParentBased(sampler), shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self))
        self.tracer = provider.get_tracer("tests")
        self.of_requests = RequestSpans(self.tracer, trust_callers)
        self._ended: asyncio.Queue[ReadableSpan] = asyncio.Queue()

    async def next(self) -> ReadableSpan:
        """The next span to end."""
        return await self._ended.get()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        for span in spans:
            self._ended.put_nowait(span)
        return SpanExportResult.SUCCESS

    def none_left(self) -> bool:
        return self._ended.empty()
