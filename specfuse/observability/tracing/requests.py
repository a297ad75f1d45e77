"""The spans of requests that come in, whatever the door."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, NoOpTracer, Span, SpanKind, Tracer

from specfuse.observability.tracing.current import attached
from specfuse.observability.tracing.propagation import incoming


@dataclass(frozen=True, slots=True)
class RequestSpans:
    """Makes the span of each request that comes in."""

    tracer: Tracer = field(default_factory=NoOpTracer)
    trust_callers: bool = True
    """Whether the trace that a caller says it is in goes on here."""

    @property
    def makes_any(self) -> bool:
        """Whether tracing is configured. If not, doors need not look for whose trace it is."""
        return not isinstance(self.tracer, NoOpTracer)

    @contextmanager
    def span(
        self, name: str, headers: Iterable[tuple[str, str | bytes]], attributes: Mapping[str, str]
    ) -> Iterator[Span]:
        """The request's span, current within. `headers` are the request's, names in lower case.

        Errors are not recorded: their messages may quote what was asked. Whoever knows the outcome
        sets it.
        """
        caller = incoming(headers)
        parent, links = (caller, ()) if self.trust_callers else (Context(), _links_to(caller))
        span = self.tracer.start_span(
            name, parent, kind=SpanKind.SERVER, attributes=attributes, links=links
        )
        try:
            with attached(trace.set_span_in_context(span, parent)):
                yield span
        finally:
            span.end()


NONE: Final = RequestSpans()
"""No spans."""


def _links_to(caller: Context) -> tuple[Link, ...]:
    span = trace.get_current_span(caller).get_span_context()
    return (Link(span),) if span.is_valid else ()
