"""Spans within a request that is traced, by OpenTelemetry's API; within any other there are none.

A span says how its work ended, and nothing of what an exception says: messages quote what they
complain of, and no prompt and no answer may be in a trace.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final

from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import (
    INVALID_SPAN,
    NoOpTracer,
    Span,
    SpanKind,
    StatusCode,
    Tracer,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import Attributes

from specfuse.errors import SpecFuseError

CANCELLED: Final = "specfuse.cancelled"
"""True of work that was given up: whoever wanted it went away, or has it from somebody else."""

ERROR: Final = "error.type"
"""The reason of the error that work ended with."""

NO_TRACER: Final[Tracer] = NoOpTracer()
"""Of a service that traces nothing."""

UNTRACED: Final[AbstractContextManager[Span]] = nullcontext(INVALID_SPAN)
"""Stands for a span where there is none. It takes whatever it is told, and keeps nothing."""

_W3C: Final = TraceContextTextMapPropagator()


def traced(context: Context | None = None) -> bool:
    """Whether what is done now, or in the context, is traced."""
    return get_current_span(context).get_span_context().trace_flags.sampled


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
    token = attach(set_span_in_context(span))
    try:
        yield span
    except BaseException as error:
        end(span, error)
        raise
    else:
        end(span)
    finally:
        detach(token)


def end(span: Span, error: BaseException | None = None) -> None:
    """Ends a span, of work that this error ended."""
    match error:
        case None:
            pass
        case asyncio.CancelledError() | GeneratorExit():
            span.set_attribute(CANCELLED, value=True)
        case _:
            reason = error.reason if isinstance(error, SpecFuseError) else type(error).__name__
            span.set_attribute(ERROR, reason)
            span.set_status(StatusCode.ERROR)
    span.end()


def sent_along() -> dict[str, str]:
    """What a request has to carry for whoever answers it to trace it under the current span."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier)
    return carrier
