"""A tracer whose spans a test looks at, and what must be true of any spans."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Span, Tracer

from specfuse import spans


@dataclass
class Recorder:
    """Makes spans in this process, all of them sampled, and keeps those that ended."""

    exporter: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)

    def __post_init__(self) -> None:
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer: Tracer = provider.get_tracer("tests")

    @contextmanager
    def caller(self) -> Iterator[Span]:
        """A span of whoever calls, current inside."""
        with spans.current(self.tracer.start_span("caller")) as span:
            yield span

    def ended(self, *names: str) -> Sequence[ReadableSpan]:
        """The spans that ended, in that order; of these names if any are given."""
        return [one for one in self.exporter.get_finished_spans() if not names or one.name in names]

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
