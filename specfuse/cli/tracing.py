"""The trace that a command is a part of, as whoever runs it says in the environment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_VARIABLES: Final = ("TRACEPARENT", "TRACESTATE")
"""As pipelines and `otel-cli` set them."""


@contextmanager
def trace_of_environment() -> Iterator[None]:
    """Within, the trace of the environment is current, if it names one.

    It takes OpenTelemetry's API, which services have; a client alone does without.
    """
    named = [(name.lower(), os.environ[name]) for name in _VARIABLES if name in os.environ]
    if not named:
        yield
        return
    try:
        from specfuse.observability.tracing.current import attached  # noqa: PLC0415 (heavy)
        from specfuse.observability.tracing.propagation import incoming  # noqa: PLC0415
    except ModuleNotFoundError:
        yield
        return
    with attached(incoming(named)):
        yield
