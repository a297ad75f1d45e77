"""What leads from a number to a trace that it came from.

Prometheus is given exemplars in the OpenMetrics format only, and keeps them only if it is told to.
"""

from __future__ import annotations

from specfuse.observability.tracing.current import trace_id
from specfuse.observability.tracing.spans import traced


def exemplar() -> dict[str, str] | None:
    """The labels of what is observed now; None if that is not part of a trace that is recorded."""
    return {"trace_id": trace_id()} if traced() else None
