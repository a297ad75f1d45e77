"""How the work of a span ended."""

from __future__ import annotations

import asyncio
from typing import Final

from opentelemetry.trace import Span, StatusCode

from specfuse.errors import Code, SpecFuseError
from specfuse.observability.tracing.conventions import CANCELLED, ERROR_TYPE

_CALLERS_FAULT: Final = frozenset(
    {
        Code.INVALID_ARGUMENT,
        Code.UNAUTHENTICATED,
        Code.FORBIDDEN,
        Code.NOT_FOUND,
        Code.RATE_LIMITED,
    }
)
"""What is answered as it should be, if not to the caller's liking."""


def failed(span: Span, error: BaseException) -> None:
    """The work of the span ended in this error. Of its message, nothing is said."""
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        cancelled(span)
        return
    known = error if isinstance(error, SpecFuseError) else None
    span.set_attribute(ERROR_TYPE, known.reason if known else type(error).__qualname__)
    if known is None or known.code not in _CALLERS_FAULT:
        span.set_status(StatusCode.ERROR)


def cancelled(span: Span) -> None:
    """The work of the span was ended before it was done, as nobody waited for it any more."""
    span.set_attribute(CANCELLED, True)  # noqa: FBT003 (an attribute's value)
