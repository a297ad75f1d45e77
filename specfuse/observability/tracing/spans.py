"""Spans of what is done for a request that is traced; for any other, none are made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final

from opentelemetry.trace import (
    INVALID_SPAN,
    NoOpTracer,
    Span,
    SpanKind,
    Tracer,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.util.types import Attributes

from specfuse.observability.tracing.current import attached
from specfuse.observability.tracing.outcomes import failed

NO_TRACER: Final[Tracer] = NoOpTracer()
"""Of whoever traces nothing."""

UNTRACED: Final[AbstractContextManager[Span]] = nullcontext(INVALID_SPAN)
"""Stands for a span where there is none. It takes whatever it is told, and keeps nothing."""


def traced() -> bool:
    """Whether what is done now is part of a trace that is recorded."""
    return get_current_span().get_span_context().trace_flags.sampled


def span(
    tracer: Tracer, name: str, attributes: Attributes = None, kind: SpanKind = SpanKind.INTERNAL
) -> AbstractContextManager[Span]:
    """A span of what is done inside, within the current one. None is made if that is not traced.

    Inside it is the current span, so a generator must not yield there: it shares its context with
    whoever iterates it.
    """
    if not traced():
        return UNTRACED
    return current(tracer.start_span(name, kind=kind, attributes=attributes))


@contextmanager
def current(span: Span) -> Iterator[Span]:
    """Makes a span the current one inside, and ends it."""
    try:
        with attached(set_span_in_context(span)):
            yield span
    except BaseException as error:
        end(span, error)
        raise
    else:
        end(span)


def end(span: Span, error: BaseException | None = None) -> None:
    """Ends a span, of work that this error ended."""
    if error is not None:
        failed(span, error)
    span.end()
