"""The spans of a call in this process: its wait for a batch, and the forward passes it was in."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from opentelemetry.trace import Tracer

from specfuse.observability.tracing import spans
from specfuse.observability.tracing.conventions import (
    FORWARD_SECONDS,
    LARGEST_BATCH,
    MEAN_BATCH,
    PASSES,
    STAGE,
)


@dataclass(slots=True)
class Passes:
    """What the scheduler's thread notes of one call. Times are nanoseconds since the epoch.

    `sequences` are those of all its passes, of which the `largest` had so many; `seconds` is how
    long these took.
    """

    began: int | None = None
    count: int = 0
    sequences: int = 0
    largest: int = 0
    seconds: float = 0.0

    def begin(self) -> None:
        """The first pass begins."""
        self.began = time.time_ns()

    def add(self, sequences: int, seconds: float) -> None:
        """A pass over so many sequences, of which the call's is one, ended."""
        self.count += 1
        self.sequences += sequences
        self.largest = max(self.largest, sequences)
        self.seconds += seconds


@contextmanager
def passes(tracer: Tracer) -> Iterator[Passes | None]:
    """Whom to tell of the passes of a call that is made inside; None if it is not traced.

    The spans are made when the call has ended, or was given up. Then a pass may still be under
    way, of which nobody waits for the result.
    """
    if not spans.traced():
        yield None
        return
    arrived, noted = time.time_ns(), Passes()
    try:
        yield noted
    except BaseException as error:
        _make(tracer, arrived, noted, error)
        raise
    else:
        _make(tracer, arrived, noted)


def _make(tracer: Tracer, arrived: int, noted: Passes, error: BaseException | None = None) -> None:
    queue = tracer.start_span("queue", start_time=arrived)
    queue.set_attribute(STAGE, "batch")
    if noted.began is None:
        spans.end(queue, error)
        return
    queue.end(noted.began)
    forward = tracer.start_span("forward", start_time=noted.began)
    forward.set_attribute(PASSES, noted.count)
    forward.set_attribute(FORWARD_SECONDS, noted.seconds)
    forward.set_attribute(LARGEST_BATCH, noted.largest)
    if noted.count:
        forward.set_attribute(MEAN_BATCH, noted.sequences / noted.count)
    spans.end(forward, error)
