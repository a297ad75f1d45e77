"""The trace that a caller is in, which a fuser goes on with if it traces, too."""

from __future__ import annotations

import sys
from typing import Final

from specfuse.client.key import Headers

_API: Final = "opentelemetry.trace"


def trace_headers() -> Headers:
    """The context of the current span, by W3C; none without one.

    Whoever has a span has imported OpenTelemetry, which the client need not for anything else.
    """
    if _API not in sys.modules:
        return ()
    from specfuse.observability.tracing.propagation import outgoing  # noqa: PLC0415 (as above)

    return outgoing()
