"""The spans of calls to a model in this process: their waits, and their forward passes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest

from model_service.backends.torch.backend import EngineLimits, TorchBackend, backend_for
from model_service.backends.torch.scheduler import BatchLimits
from model_service.backends.torch.spans import passes
from model_service.core.types import Context, ProposeRequest, Sampling
from specfuse.deadline import Deadline
from specfuse.errors import DeadlineExceeded
from specfuse.observability.tracing.conventions import CANCELLED, ERROR_TYPE
from tests.support import tiny_models
from tests.support.observers import RecordingObserver
from tests.support.recorded_spans import RecordedSpans

NEVER = Deadline.never()
PROPOSE = ProposeRequest(Context("Once upon a time", (), "s"), 4, Sampling(), ())


@pytest.fixture
def recorder() -> RecordedSpans:
    return RecordedSpans()


@pytest.fixture
def observer() -> RecordingObserver:
    return RecordingObserver()


@pytest.fixture
async def backend(
    recorder: RecordedSpans, observer: RecordingObserver
) -> AsyncIterator[TorchBackend]:
    limits = EngineLimits(1 << 24, BatchLimits(tokens=24, calls=16), threads=1)
    loaded = tiny_models.loaded("llama")
    backend = backend_for("llama", loaded, limits, observer, recorder.tracer)
    yield backend
    await backend.close()


async def test_a_call_waits_and_then_has_its_passes(
    backend: TorchBackend, recorder: RecordedSpans, observer: RecordingObserver
) -> None:
    before = len(observer.forwards)
    with recorder.caller() as caller:
        await backend.propose(PROPOSE, NEVER)
    queue, forward, whole = recorder.ended()
    assert [one.name for one in (queue, forward, whole)] == ["queue", "forward", "caller"]
    assert queue.parent == forward.parent == caller.get_span_context()
    times = (whole.start_time, queue.start_time, queue.end_time, forward.end_time, whole.end_time)
    assert all(before <= after for before, after in pairwise(times))
    assert queue.end_time == forward.start_time
    assert queue.attributes == {"specfuse.stage": "batch"}
    told = dict(forward.attributes or {})
    assert 0 < told.pop("specfuse.forward_seconds") <= (forward.end_time - forward.start_time) / 1e9
    assert told == {
        "specfuse.passes": len(observer.forwards) - before,
        "specfuse.largest_batch": 1,
        "specfuse.mean_batch": 1.0,
    }


async def test_a_call_outside_of_a_trace_has_none(
    backend: TorchBackend, recorder: RecordedSpans
) -> None:
    await backend.propose(PROPOSE, NEVER)
    assert not recorder.ended()


async def test_a_call_whose_time_is_up_before_its_first_pass_only_waited(
    backend: TorchBackend, recorder: RecordedSpans
) -> None:
    with recorder.caller(), pytest.raises(DeadlineExceeded):
        await backend.propose(PROPOSE, Deadline.after(0))
    queue, _ = recorder.ended()
    assert queue.name == "queue"
    assert queue.attributes == {"specfuse.stage": "batch", ERROR_TYPE: "DEADLINE_EXCEEDED"}


def test_a_call_that_is_given_up_during_a_pass_ends_then(recorder: RecordedSpans) -> None:
    given_up = pytest.raises(asyncio.CancelledError)
    with recorder.caller(), given_up, passes(recorder.tracer) as noted:
        assert noted is not None
        noted.begin()
        noted.add(3, 0.5)
        raise asyncio.CancelledError
    queue, forward, _ = recorder.ended()
    assert CANCELLED not in (queue.attributes or {})
    assert forward.attributes == {
        "specfuse.passes": 1,
        "specfuse.forward_seconds": 0.5,
        "specfuse.largest_batch": 3,
        "specfuse.mean_batch": 3.0,
        CANCELLED: True,
    }
