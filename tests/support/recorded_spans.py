"""Spans of this process, kept for a test to look at."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, Sampler
from opentelemetry.trace import Span

from specfuse.observability.tracing.requests import RequestSpans
from specfuse.observability.tracing.spans import current


class RecordedSpans(SpanExporter):
    """Makes spans by a tracer of the SDK, and keeps those that ended."""

    def __init__(self, sampler: Sampler = ALWAYS_ON, *, trust_callers: bool = True) -> None:
        provider = TracerProvider(ParentBased(sampler), shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self))
        self.tracer = provider.get_tracer("tests")
        self.of_requests = RequestSpans(self.tracer, trust_callers)
        self._kept: list[ReadableSpan] = []
        self._coming: asyncio.Queue[ReadableSpan] = asyncio.Queue()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._kept += spans
        for span in spans:
            self._coming.put_nowait(span)
        return SpanExportResult.SUCCESS

    @contextmanager
    def caller(self) -> Iterator[Span]:
        """A span of whoever calls, current inside."""
        with current(self.tracer.start_span("caller")) as span:
            yield span

    async def next(self) -> ReadableSpan:
        """The next span to end."""
        return await self._coming.get()

    def none_left(self) -> bool:
        """Whether `next` would wait."""
        return self._coming.empty()

    def ended(self, *names: str) -> Sequence[ReadableSpan]:
        """The spans that ended, in that order; of these names if any are given."""
        return [one for one in self._kept if not names or one.name in names]

    def tree(self) -> dict[str, object]:
        """The names of the spans that ended, each with those of its children, in order of begin."""
        by_begin = sorted(self.ended(), key=lambda one: one.start_time or 0)

        def below(parent: int | None) -> list[object]:
            return [
                {one.name: below(one.context.span_id)} if below(one.context.span_id) else one.name
                for one in by_begin
                if (one.parent.span_id if one.parent else None) == parent
            ]

        (root,) = below(None)
        assert isinstance(root, dict), f"{root} has no children"
        return root
