"""The one thread that runs the model: the next steps of all calls, batched, turn by turn.

Continuous batching: a call joins at the next forward pass and leaves as soon as it is done. Every
pass takes the waiting drafting and scoring steps, and fills up with contexts still to be fed, piece
by piece, so that a long prompt stalls no other. A call that was served goes to the back of the
line.

Between passes, calls whose caller went away or whose deadline passed are dropped. A call that
fails takes no other with it: if a pass fails as a whole, its steps are run one by one.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from threading import Condition, Thread
from typing import Any, Protocol, TypeVar

import torch

from model_service.backends.torch.engine.engine import Engine, Outcome, Rows, Step
from model_service.backends.torch.engine.memory import failure_of
from model_service.backends.torch.spans import Passes
from model_service.ports import EngineObserver, ForwardKind
from specfuse.deadline import Deadline
from specfuse.errors import DeadlineExceeded, ShuttingDown, SpecFuseError

logger = logging.getLogger(__name__)

Answer_co = TypeVar("Answer_co", covariant=True)
T = TypeVar("T")

_PREFILL_SHARE = 4
"""One in this many tokens of a pass is kept for contexts to be fed, if there are any."""


class Call(Protocol[Answer_co]):
    """Something to run on an engine, step by step."""

    def run(self, engine: Engine) -> Generator[Step, Rows, Answer_co]:
        """Yields steps, is sent their rows, returns the answer."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """What one forward pass takes at most: tokens, and calls."""

    tokens: int
    calls: int


@dataclass(frozen=True, eq=False, slots=True)
class Ticket:
    """A call that waits for its answer. What it takes is noted in `passes`, if it is traced."""

    call: Call[Any]
    deadline: Deadline
    passes: Passes | None = None
    future: Future[Any] = field(default_factory=Future)
    arrived: float = field(default_factory=time.monotonic)

    def answer(self, answer: object) -> None:
        """Gives the answer to the caller if it still waits."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_result(answer)

    def refuse(self, error: SpecFuseError) -> None:
        """Gives the error to the caller if it still waits."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


@dataclass(eq=False, slots=True)
class Running:
    """A started call, and the step it waits for."""

    ticket: Ticket
    steps: Generator[Step, Rows, Any]
    step: Step
    served: bool = False


class Scheduler:
    """Runs calls on an engine, in a thread of its own."""

    def __init__(
        self,
        engine: Engine,
        limits: BatchLimits,
        observer: EngineObserver,
        *,
        threads: int | None = None,
    ) -> None:
        """Starts the thread. `threads` is how many torch computes with; None leaves it as it is."""
        self._engine = engine
        self._limits = limits
        self._observer = observer
        self._threads = threads
        self._waiting: deque[Ticket] = deque()
        self._arrived = Condition()
        self._closing = False
        self._line: list[Running] = []
        self._thread = Thread(target=self._work, name="torch-scheduler", daemon=True)
        self._thread.start()

    def submit(self, call: Call[T], deadline: Deadline, passes: Passes | None = None) -> Future[T]:
        """Queues a call. Cancelling the future drops the call before the next forward pass.

        Its passes are noted in `passes` until its future is done.

        Raises:
            ShuttingDown: the scheduler is closed.
        """
        ticket = Ticket(call, deadline, passes)
        with self._arrived:
            if self._closing:
                raise ShuttingDown("the engine is closed")
            self._waiting.append(ticket)
            self._arrived.notify()
        return ticket.future

    def close(self) -> None:
        """Ends the thread after the forward pass it is in; waiting calls fail. Idempotent."""
        with self._arrived:
            self._closing = True
            self._arrived.notify()
        self._thread.join()

    def _work(self) -> None:
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        try:
            with torch.inference_mode():
                while self._await_work():
                    self._drop_abandoned()
                    self._start()
                    self._pass()
        finally:
            self._refuse_all()

    def _await_work(self) -> bool:
        """Waits until there is something to do; false when the scheduler is to end."""
        with self._arrived:
            while not (self._line or self._waiting or self._closing):
                self._arrived.wait()
            return not self._closing

    def _drop_abandoned(self) -> None:
        for running in tuple(self._line):
            if _is_over(running.ticket):
                self._end(running)

    def _start(self) -> None:
        """Starts the calls that have waited longest, as many as may run at once."""
        while len(self._line) < self._limits.calls:
            with self._arrived:
                if not self._waiting:
                    return
                ticket = self._waiting.popleft()
            if not _is_over(ticket):
                steps = ticket.call.run(self._engine)
                step = _advanced(ticket, steps, None)
                if step is not None:
                    self._line.append(Running(ticket, steps, step))

    def _pass(self) -> None:
        """One forward pass."""
        batch = chosen(self._line, self._limits.tokens)
        if not batch:
            return
        self._note_waits(running for running, _ in batch)
        began = time.perf_counter()
        outcomes = self._run([step for _, step in batch])
        seconds = time.perf_counter() - began
        for running, _ in batch:
            if running.ticket.passes is not None:
                running.ticket.passes.add(len(batch), seconds)
        for (running, step), outcome in zip(batch, outcomes, strict=True):
            self._deliver(running, step, outcome)
        served = {running for running, _ in batch}
        self._line.sort(key=served.__contains__)

    def _note_waits(self, batch: Iterable[Running]) -> None:
        now = time.monotonic()
        for running in batch:
            if not running.served:
                running.served = True
                self._observer.queued(now - running.ticket.arrived)
                if running.ticket.passes is not None:
                    running.ticket.passes.begin()

    def _run(self, steps: Sequence[Step]) -> list[Outcome]:
        began = time.perf_counter()
        try:
            outcomes = self._engine.run(steps)
        except Exception as error:  # noqa: BLE001 - whatever a model raises must not end the scheduler
            if len(steps) > 1:
                return [outcome for step in steps for outcome in self._run([step])]
            logger.warning("a forward pass failed: %s", type(error).__name__)
            return [failure_of(error)]
        self._observer.forward(kind_of(steps), time.perf_counter() - began, len(steps))
        return outcomes

    def _deliver(self, running: Running, step: Step, outcome: Outcome) -> None:
        if isinstance(outcome, SpecFuseError):
            running.ticket.refuse(outcome)
            self._end(running)
        elif running.step is not step:
            running.step = replace(running.step, ingest=running.step.ingest - step.ingest)
        else:
            following = _advanced(running.ticket, running.steps, outcome)
            if following is None:
                self._line.remove(running)
            else:
                running.step = following

    def _end(self, running: Running) -> None:
        """Takes a call out of the line and lets go of what it holds."""
        self._line.remove(running)
        running.steps.close()

    def _refuse_all(self) -> None:
        with self._arrived:
            self._closing = True
        for running in tuple(self._line):
            running.ticket.refuse(ShuttingDown("the engine is closed"))
            self._end(running)
        for ticket in self._waiting:
            ticket.refuse(ShuttingDown("the engine is closed"))


def chosen(line: Sequence[Running], tokens: int) -> list[tuple[Running, Step]]:
    """What the next pass takes of the calls in line: their steps, or pieces of their contexts.

    Steps that cannot be cut, as they feed at most the last token of a context, come first. Of the
    others one is taken whole, or else a piece of its context that leaves that token for the step
    itself. One step is always taken; as calls that were served go to the back, every one's comes.
    """
    ready = [running for running in line if running.step.ingest <= 1]
    feeding = [running for running in line if running.step.ingest > 1]
    batch: list[tuple[Running, Step]] = []
    kept = tokens // _PREFILL_SHARE if feeding else 0
    for running in ready:
        if running.step.tokens <= tokens - kept or not batch:
            batch.append((running, running.step))
            tokens -= running.step.tokens
    for running in feeding:
        step = running.step
        piece = min(step.ingest - 1, tokens)
        if step.tokens <= tokens or (not batch and piece == 0):
            batch.append((running, step))
            tokens -= step.tokens
        elif piece > 0:
            batch.append((running, replace(step, ingest=piece, branches=())))
            tokens -= piece
    return batch


def kind_of(steps: Sequence[Step]) -> ForwardKind:
    """The kind of most of a pass's tokens."""
    by_kind: dict[ForwardKind, int] = {}
    for step in steps:
        by_kind[step.kind] = by_kind.get(step.kind, 0) + step.tokens
    return max(by_kind, key=by_kind.__getitem__)


def _is_over(ticket: Ticket) -> bool:
    """Whether the caller has stopped waiting; tells it of a passed deadline."""
    if ticket.future.cancelled():
        return True
    if ticket.deadline.passed:
        ticket.refuse(DeadlineExceeded("the deadline passed before the work was done"))
        return True
    return False


def _advanced(ticket: Ticket, steps: Generator[Step, Rows, Any], rows: Rows | None) -> Step | None:
    """A call's next step, or None if it has ended; then its answer or error was given."""
    try:
        return next(steps) if rows is None else steps.send(rows)
    except StopIteration as done:
        ticket.answer(done.value)
    except SpecFuseError as error:
        ticket.refuse(error)
    except Exception as error:
        logger.exception("a call failed")
        ticket.refuse(failure_of(error))
    return None
