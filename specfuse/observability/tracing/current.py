"""What is current: the span that new ones are children of, and that lines of the log belong to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context


@contextmanager
def attached(context: Context) -> Iterator[None]:
    """Within, this context is current.

    A generator may be closed in another task than it ran in, where what was current before means
    nothing and nothing may be put back; OpenTelemetry's own `detach` would log an error there.
    """
    before = contexts.get_current()
    contexts.attach(context)
    try:
        yield
    finally:
        if contexts.get_current() is context:
            contexts.attach(before)


def trace_id() -> str:
    """The id of the current trace, recorded or not, in 32 hexadecimal digits; empty if none."""
    span = trace.get_current_span().get_span_context()
    return trace.format_trace_id(span.trace_id) if span.is_valid else ""


def span_id() -> str:
    """The id of the current span, in 16 hexadecimal digits; empty if there is none."""
    span = trace.get_current_span().get_span_context()
    return trace.format_span_id(span.span_id) if span.is_valid else ""
