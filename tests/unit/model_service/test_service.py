"""The spans of calls that wait for one of the places to run in."""

from __future__ import annotations

import asyncio

import pytest

from model_service.core.types import Context, ProposeRequest, Sampling
from model_service.service import ModelService
from model_service.settings import Limits
from specfuse.deadline import Deadline
from specfuse.errors import DeadlineExceeded
from specfuse.observability.tracing.conventions import CANCELLED, STAGE
from tests.support.model_door import HeldBackend
from tests.support.recorded_spans import RecordedSpans

REQUEST = ProposeRequest(Context("?", (), "s"), 4, Sampling(), ())
LONG = Deadline.never()


class Crowded:
    """A service with one place to run in, which is taken until the backend is released."""

    def __init__(self) -> None:
        self.backend = HeldBackend()
        self.recorder = RecordedSpans()
        self.waits = asyncio.Event()
        limits = Limits(running_calls=1, waiting_calls=1)
        self.service = ModelService(self.backend, limits, self, self.recorder.tracer)

    def asked(self, session_id: str) -> None:
        """A call came."""

    def admitted(self, seconds: float) -> None:
        """A call has its place."""

    def load(self, *, waiting: int, running: int) -> None:
        if waiting and running:
            self.waits.set()

    async def traced(self, deadline: Deadline = LONG) -> None:
        with self.recorder.caller():
            await self.service.propose(REQUEST, deadline)

    async def taken(self) -> asyncio.Task[object]:
        """A call that has the place, from when it has."""
        running = asyncio.create_task(self.service.propose(REQUEST, LONG))
        await self.backend.arrivals.acquire()
        return running


async def test_a_call_that_waits_for_a_place_has_a_span_of_that() -> None:
    crowded = Crowded()
    running = await crowded.taken()
    waiting = asyncio.create_task(crowded.traced())
    await crowded.waits.wait()
    crowded.backend.released.set()
    await asyncio.gather(running, waiting)
    queue, caller = crowded.recorder.ended()
    assert (queue.name, queue.attributes) == ("queue", {STAGE: "admission"})
    assert queue.parent == caller.context


async def test_a_call_that_need_not_wait_has_none() -> None:
    crowded = Crowded()
    crowded.backend.released.set()
    await crowded.traced()
    assert [one.name for one in crowded.recorder.ended()] == ["caller"]


async def test_who_waits_untraced_has_none() -> None:
    crowded = Crowded()
    running = await crowded.taken()
    waiting = asyncio.create_task(crowded.service.propose(REQUEST, LONG))
    await crowded.waits.wait()
    crowded.backend.released.set()
    await asyncio.gather(running, waiting)
    assert not crowded.recorder.ended()


async def test_a_wait_ends_with_the_callers_time() -> None:
    crowded = Crowded()
    running = await crowded.taken()
    with pytest.raises(DeadlineExceeded):
        await crowded.traced(Deadline.after(0.01))
    queue, _ = crowded.recorder.ended()
    assert queue.attributes[CANCELLED] is True, "it is the call that was too late"
    crowded.backend.released.set()
    await running
