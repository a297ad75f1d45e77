"""The scheduler: everybody's steps together, nobody stalled, nobody hurt by another."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model_service.backends.torch.engine.engine import Rows, Step
from model_service.backends.torch.scheduler import BatchLimits, Running, Scheduler, Ticket, chosen
from model_service.backends.torch.spans import Passes
from specfuse.deadline import Deadline
from specfuse.errors import DeadlineExceeded, ModelFailure
from tests.support.observers import RecordingObserver

NEVER = Deadline.never()
SECONDS = 10


@dataclass(eq=False)
class Lease:
    """Stands for a lease; knows whose it is."""

    name: str
    closed: bool = False


def draft(lease: Lease, tokens: int = 1) -> Step:
    return Step(lease, draft=(0,) * tokens)


def feed(lease: Lease, tokens: int) -> Step:
    return Step(lease, ingest=tokens)


class Scripted:
    """A call that asks for these steps in turn and answers with its name."""

    def __init__(self, name: str, *steps: Step) -> None:
        self.lease = Lease(name)
        self.steps = steps

    @classmethod
    def drafting(cls, name: str, count: int) -> Scripted:
        call = cls(name)
        call.steps = (draft(call.lease),) * count
        return call

    @classmethod
    def feeding(cls, name: str, tokens: int) -> Scripted:
        call = cls(name)
        call.steps = (feed(call.lease, tokens),)
        return call

    def run(self, engine: Engine) -> Generator[Step, Rows, str]:
        try:
            for step in self.steps:
                yield Step(step.lease, ingest=step.ingest, draft=step.draft)
        finally:
            self.lease.closed = True
        return self.lease.name


@dataclass
class Engine:
    """Remembers each pass as tokens by lease. Passes wait until it is opened."""

    passes: list[dict[str, int]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    broken: frozenset[str] = frozenset()

    def run(self, steps: Sequence[Step]) -> list[Rows]:
        self.gate.wait(SECONDS)
        if any(step.lease.name in self.broken for step in steps):
            raise RuntimeError("a broken step")
        self.passes.append({step.lease.name: step.tokens for step in steps})
        return [Rows(torch.zeros(1, 1), (0,), (0.0,)) for _ in steps]


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def scheduler(engine: Engine) -> Iterator[Scheduler]:
    scheduler = Scheduler(engine, BatchLimits(tokens=16, calls=5), RecordingObserver())
    yield scheduler
    engine.gate.set()
    scheduler.close()


def together(scheduler: Scheduler, engine: Engine, *calls: Scripted) -> list[Future[str]]:
    """Submits calls so that all are in line before the second pass; the first is a stop-gap's."""
    scheduler.submit(Scripted.drafting("first", 1), NEVER)
    futures = [scheduler.submit(call, NEVER) for call in calls]
    engine.gate.set()
    return futures


def test_steps_of_all_calls_share_a_pass(scheduler: Scheduler, engine: Engine) -> None:
    calls = [Scripted.drafting(name, 3) for name in "abcd"]
    for future in together(scheduler, engine, *calls):
        assert future.result(SECONDS)
    engine.passes[0].pop("first", None)
    assert sum(each == dict.fromkeys("abcd", 1) for each in engine.passes) >= 2


def test_passes_are_noted_with_each_call_that_wants_them(
    scheduler: Scheduler, engine: Engine
) -> None:
    scheduler.submit(Scripted.drafting("first", 1), NEVER)
    noted = {name: Passes() for name in "ab"}
    futures = [
        scheduler.submit(Scripted.drafting(name, 3), NEVER, passes)
        for name, passes in noted.items()
    ]
    futures.append(scheduler.submit(Scripted.drafting("unnoted", 3), NEVER))
    assert all(passes.began is None for passes in noted.values())
    engine.gate.set()
    for future in futures:
        future.result(SECONDS)
    for name, passes in noted.items():
        shared = [len(each) for each in engine.passes if name in each]
        assert (passes.count, passes.largest) == (3, max(shared))
        assert passes.sequences == sum(shared)
        assert passes.began is not None
        assert passes.seconds > 0


def test_a_long_context_is_fed_in_pieces_beside_drafts(
    scheduler: Scheduler, engine: Engine
) -> None:
    long, quick = Scripted.feeding("long", 100), Scripted.drafting("quick", 20)
    for future in together(scheduler, engine, long, quick):
        future.result(SECONDS)
    both = [each for each in engine.passes if "long" in each]
    assert sum(each["long"] for each in both) == 100
    assert all(each["long"] <= 15 and each.get("quick") == 1 for each in both)


def test_two_long_contexts_take_turns(scheduler: Scheduler, engine: Engine) -> None:
    calls = [Scripted.feeding("one", 64), Scripted.feeding("other", 64)]
    for future in together(scheduler, engine, *calls):
        future.result(SECONDS)
    passes = [each for each in engine.passes if "first" not in each]
    order = [name for each in passes for name, tokens in each.items() if tokens > 1]
    assert all(before != after for before, after in pairwise(order))


def test_feeding_goes_on_beside_many_large_steps(scheduler: Scheduler, engine: Engine) -> None:
    calls = [Scripted(name) for name in "abc"]
    for call in calls:
        call.steps = (draft(call.lease, 6),) * 12
    fed = Scripted.feeding("fed", 20)
    *_, feeding = together(scheduler, engine, *calls, fed)
    feeding.result(SECONDS)
    assert max(i for i, each in enumerate(engine.passes) if "fed" in each) < 10


def test_calls_beyond_the_limit_wait_for_their_turn(scheduler: Scheduler, engine: Engine) -> None:
    calls = [Scripted.drafting(str(number), 3) for number in range(20)]
    results = [future.result(SECONDS) for future in together(scheduler, engine, *calls)]
    assert results == [str(number) for number in range(20)]
    assert max(map(len, engine.passes)) == 5


def test_a_pass_that_fails_hurts_only_the_call_that_broke_it(
    scheduler: Scheduler, engine: Engine
) -> None:
    engine.broken = frozenset("b")
    calls = [Scripted.drafting(name, 3) for name in "abc"]
    first, broken, last = together(scheduler, engine, *calls)
    assert (first.result(SECONDS), last.result(SECONDS)) == ("a", "c")
    with pytest.raises(ModelFailure, match="RuntimeError"):
        broken.result(SECONDS)
    assert calls[1].lease.closed


def test_a_cancelled_call_is_dropped_before_the_next_pass(
    scheduler: Scheduler, engine: Engine
) -> None:
    started, waiting = Scripted.drafting("started", 9), Scripted.drafting("waiting", 9)
    future = scheduler.submit(started, NEVER)
    others = [scheduler.submit(Scripted.drafting(name, 9), NEVER) for name in "abcd"]
    never = scheduler.submit(waiting, NEVER)
    assert future.cancel()
    assert never.cancel()
    engine.gate.set()
    for other in others:
        other.result(SECONDS)
    assert sum("started" in each for each in engine.passes) <= 1
    assert not any("waiting" in each for each in engine.passes)
    assert not waiting.lease.closed


def test_a_passed_deadline_is_told_and_frees_what_was_held(
    scheduler: Scheduler, engine: Engine
) -> None:
    call = Scripted.drafting("late", 9)
    future = scheduler.submit(call, Deadline.after(0.05))
    threading.Timer(0.1, engine.gate.set).start()
    with pytest.raises(DeadlineExceeded):
        future.result(SECONDS)
    assert len(engine.passes) <= 1


def test_a_call_that_raises_fails_alone(scheduler: Scheduler, engine: Engine) -> None:
    class Faulty(Scripted):
        def run(self, engine: Engine) -> Generator[Step, Rows, str]:
            yield draft(self.lease)
            raise KeyError("a bug")

    faulty, fine = together(scheduler, engine, Faulty("faulty"), Scripted.drafting("fine", 3))
    with pytest.raises(ModelFailure):
        faulty.result(SECONDS)
    assert fine.result(SECONDS) == "fine"


STEPS = st.one_of(
    st.builds(lambda count: draft(Lease("any"), count), st.integers(1, 20)),
    st.builds(
        lambda ingest, judged: Step(Lease("any"), ingest=ingest, branches=((0,) * judged,)),
        st.integers(1, 50),
        st.integers(0, 20),
    ),
)


@given(st.lists(STEPS, min_size=1, max_size=12), st.integers(1, 40))
def test_a_pass_keeps_to_its_tokens_and_always_takes_something(
    steps: list[Step], tokens: int
) -> None:
    line = [Running(Ticket(Scripted("any"), NEVER), iter(()), step) for step in steps]
    batch = chosen(line, tokens)
    assert batch
    taken = [step.tokens for _, step in batch]
    assert all(count > 0 for count in taken)
    assert sum(taken) <= max(tokens, taken[0])
    for running, step in batch:
        if step is not running.step:
            assert step.tokens == step.ingest < running.step.ingest


@given(st.integers(1, 40), st.integers(1, 60), st.integers(4, 40))
def test_whoever_drafts_on_and_on_the_others_are_served(
    drafting: int, judged: int, tokens: int
) -> None:
    waiting = Step(Lease("any"), ingest=5, branches=((0,) * judged,))
    drafts = [
        Running(Ticket(Scripted("any"), NEVER), iter(()), draft(Lease("any"), 1))
        for _ in range(drafting)
    ]
    line = [*drafts, (late := Running(Ticket(Scripted("late"), NEVER), iter(()), waiting))]
    for _ in range(5 + len(line)):
        for running, step in chosen(line, tokens):
            line.remove(running)
            line.append(running)
            if running is late and step is late.step:
                return
            if running is late:
                late.step = replace(late.step, ingest=late.step.ingest - step.ingest)
    pytest.fail(f"never served, {late.step.ingest} tokens of context left")
