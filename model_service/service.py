"""Takes on calls to one model: checks them, bounds how many there are, and keeps their time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from opentelemetry.trace import Tracer

from model_service.core.types import (
    ModelDescription,
    Proposal,
    ProposeRequest,
    ScoreRequest,
    Scores,
)
from model_service.ports import Backend, ServiceObserver
from model_service.settings import Limits
from model_service.validation import check_proposal, check_scoring
from specfuse.deadline import Deadline
from specfuse.errors import DeadlineExceeded, Overloaded
from specfuse.observability.tracing.conventions import STAGE
from specfuse.observability.tracing.spans import NO_TRACER, span


class ModelService:
    """Serves one model. Cancelling a call stops the backend's work on it."""

    def __init__(
        self,
        backend: Backend,
        limits: Limits,
        observer: ServiceObserver,
        tracer: Tracer = NO_TRACER,
    ) -> None:
        """Does not take over the backend: its creator closes it."""
        self._backend = backend
        self._limits = limits
        self._observer = observer
        self._tracer = tracer
        self._places = asyncio.Semaphore(limits.running_calls)
        self._waiting = 0
        self._running = 0

    @property
    def model(self) -> ModelDescription:
        """What is served."""
        return self._backend.model

    async def propose(self, request: ProposeRequest, deadline: Deadline) -> Proposal:
        """Drafts the next segment.

        Raises:
            InvalidArgument: a field is wrong, or the context does not fit the model's window.
            Overloaded: too many calls are being served, or memory cannot be had.
            DeadlineExceeded: the time is up, the caller's or the limit's.
            ModelFailure: the model gave no probabilities.
            Unavailable: the backend cannot be reached.
        """
        check_proposal(request, self._limits)
        self._observer.asked(request.context.session_id)
        async with self._admitted(deadline) as until:
            return await self._backend.propose(request, until)

    async def score(self, request: ScoreRequest, deadline: Deadline) -> Scores:
        """Scores every candidate, teacher-forced.

        Raises:
            InvalidArgument, Overloaded, DeadlineExceeded, ModelFailure, Unavailable: as `propose`.
        """
        check_scoring(request, self._limits)
        self._observer.asked(request.context.session_id)
        async with self._admitted(deadline) as until:
            return await self._backend.score(request, until)

    @asynccontextmanager
    async def _admitted(self, deadline: Deadline) -> AsyncIterator[Deadline]:
        """A place to run in until the yielded deadline, at which the call is cancelled."""
        until = deadline.within(self._limits.call_seconds)
        try:
            async with asyncio.timeout(until.timeout), self._place():
                yield until
        except TimeoutError:
            raise DeadlineExceeded("the time for the call is up") from None

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """One of the places to run in, after waiting for it among a bounded number of calls."""
        if self._places.locked() and self._waiting >= self._limits.waiting_calls:
            raise Overloaded(
                f"{self._limits.running_calls} calls run and {self._waiting} wait; "
                "retry later or elsewhere"
            )
        arrived = time.monotonic()
        self._count(waiting=1)
        try:
            await self._acquired()
        finally:
            self._count(waiting=-1)
        self._observer.admitted(time.monotonic() - arrived)
        self._count(running=1)
        try:
            yield
        finally:
            self._places.release()
            self._count(running=-1)

    async def _acquired(self) -> None:
        if not self._places.locked():
            await self._places.acquire()
            return
        with span(self._tracer, "queue", {STAGE: "admission"}):
            await self._places.acquire()

    def _count(self, *, waiting: int = 0, running: int = 0) -> None:
        self._waiting += waiting
        self._running += running
        self._observer.load(waiting=self._waiting, running=self._running)
