"""The spans of this process as a tree, for tests of what makes some within a request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import Span

from specfuse.observability.tracing.spans import current
from tests.support.recorded_spans import RecordedSpans


class Recorder(RecordedSpans):
    """Makes spans by a tracer of the SDK, and keeps those that ended."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._kept += spans
        return SpanExportResult.SUCCESS

    @contextmanager
    def caller(self) -> Iterator[Span]:
        """A span of whoever calls, current inside."""
        with current(self.tracer.start_span("caller")) as span:
            yield span

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
