"""Asking several members at once: quorum, grace, deadlines, failures, cancellation."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable

import pytest

from fuser_service.core.steps import Busy, Failed, Late, Ok, Refused
from fuser_service.fusion.gather import Gathering, Patience, Relief
from specfuse.deadline import Deadline
from specfuse.errors import (
    ContextTooLong,
    DeadlineExceeded,
    InvalidArgument,
    Overloaded,
    RateLimited,
    RevisionLost,
    SpecFuseError,
    Unavailable,
)

NEVER = Deadline.never()


class Calls:
    """Calls that answer at once, raise, or wait for an event; and what the observer was told."""

    def __init__(self) -> None:
        self.ended: list[tuple[str, str]] = []
        self.running: set[str] = set()
        self.entered = asyncio.Event()

    def gathering(self, **calls: Callable[[], Awaitable[str]]) -> Gathering[str]:
        return Gathering(
            calls, lambda member, outcome, _: self.ended.append((member, outcome)), time.monotonic
        )

    def waiting(self, name: str, event: asyncio.Event) -> Callable[[], Awaitable[str]]:
        async def call() -> str:
            self.running.add(name)
            self.entered.set()
            try:
                await event.wait()
            finally:
                self.running.remove(name)
            return name

        return call


async def answer() -> str:
    return "yes"


async def unreachable() -> str:
    raise Unavailable("connection refused")


async def too_slow() -> str:
    raise DeadlineExceeded("the deadline passed")


async def test_all_answers_are_returned_at_once() -> None:
    calls = Calls()
    gathering = calls.gathering(a=answer, b=answer)
    results = await gathering.run(Patience(1, math.inf, NEVER))
    assert results == {"a": Ok("yes"), "b": Ok("yes")}
    assert sorted(calls.ended) == [("a", "ok"), ("b", "ok")]


async def test_a_failure_is_a_value_and_disturbs_nobody() -> None:
    calls, event = Calls(), asyncio.Event()
    gathering = calls.gathering(a=unreachable, b=calls.waiting("b", event))
    running = asyncio.create_task(gathering.run(Patience(1, math.inf, NEVER)))
    await calls.entered.wait()
    event.set()
    assert await running == {
        "a": Failed("UNAVAILABLE: connection refused", may_pass=True),
        "b": Ok("b"),
    }
    assert isinstance(gathering.errors["a"], Unavailable)
    assert calls.ended == [("a", "failed"), ("b", "ok")]
    assert gathering.straggled_seconds is None


@pytest.mark.parametrize(
    ("error", "result", "outcome"),
    [
        (Overloaded("full"), Busy(), "overloaded"),
        (RateLimited("enough"), Busy(), "overloaded"),
        (InvalidArgument("stop", "no"), Refused("INVALID_ARGUMENT: stop: no"), "rejected"),
    ],
)
async def test_what_a_member_says_of_the_call_is_no_failure_of_its_own(
    error: SpecFuseError, result: Busy | Refused, outcome: str
) -> None:
    async def refuse() -> str:
        raise error

    calls = Calls()
    gathering = calls.gathering(a=refuse)
    assert await gathering.run(Patience(1, 0, NEVER)) == {"a": result}
    assert calls.ended == [("a", outcome)]
    assert gathering.errors == {"a": error}


async def test_a_context_that_does_not_fit_is_told_apart() -> None:
    async def refuse() -> str:
        raise ContextTooLong(tokens=9, window=8)

    results = await Calls().gathering(a=refuse).run(Patience(1, 0, NEVER))
    assert isinstance(results["a"], Refused)
    assert results["a"].outgrown


async def test_a_passed_deadline_is_lateness() -> None:
    calls = Calls()
    assert await calls.gathering(a=too_slow).run(Patience(1, 0, NEVER)) == {"a": Late()}
    assert calls.ended == [("a", "late")]


async def test_who_is_not_done_by_the_grace_after_the_quorum_is_late_and_cancelled() -> None:
    calls = Calls()
    gathering = calls.gathering(a=answer, b=calls.waiting("b", asyncio.Event()))
    results = await gathering.run(Patience(1, 0.02, NEVER))
    assert results == {"a": Ok("yes"), "b": Late()}
    assert calls.ended == [("a", "ok"), ("b", "late")]
    assert not calls.running
    assert gathering.straggled_seconds is not None
    assert gathering.straggled_seconds >= 0.02


async def test_the_grace_begins_with_the_quorum() -> None:
    calls, event, never = Calls(), asyncio.Event(), asyncio.Event()
    gathering = calls.gathering(
        a=answer, b=calls.waiting("b", event), c=calls.waiting("c", never), d=unreachable
    )
    running = asyncio.create_task(gathering.run(Patience(2, 0, NEVER)))
    await asyncio.sleep(0.01)
    # a has answered and d has failed: that is no quorum, so nobody is late yet.
    assert calls.running == {"b", "c"}
    event.set()
    results = await running
    assert [type(result) for result in results.values()] == [Ok, Ok, Late, Failed]


async def test_without_a_quorum_the_deadline_ends_the_wait() -> None:
    calls = Calls()
    gathering = calls.gathering(a=calls.waiting("a", asyncio.Event()))
    deadline = Deadline.after(0.03)
    assert await gathering.run(Patience(1, 0, deadline)) == {"a": Late()}
    assert deadline.passed
    assert calls.ended == [("a", "late")]
    assert gathering.straggled_seconds is None


async def test_cancelling_the_caller_cancels_every_call() -> None:
    calls = Calls()
    gathering = calls.gathering(
        a=calls.waiting("a", asyncio.Event()), b=calls.waiting("b", asyncio.Event())
    )
    running = asyncio.create_task(gathering.run(Patience(1, 30, NEVER)))
    await calls.entered.wait()
    await asyncio.sleep(0)
    assert calls.running == {"a", "b"}
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not calls.running
    assert sorted(calls.ended) == [("a", "cancelled"), ("b", "cancelled")]


async def test_a_member_whose_revision_is_gone_is_not_asked_again() -> None:
    async def gone() -> str:
        raise RevisionLost("only others are left")

    results = await Calls().gathering(a=gone).run(Patience(1, 30, NEVER))
    assert results == {"a": Failed("REVISION_LOST: only others are left", may_pass=False)}


async def test_a_call_that_cancels_itself_has_failed() -> None:
    async def cancelled() -> str:
        raise asyncio.CancelledError

    calls = Calls()
    results = await calls.gathering(a=cancelled, b=answer).run(Patience(1, 30, NEVER))
    assert results == {
        "a": Failed("CANCELLED: the member gave the call up", may_pass=True),
        "b": Ok("yes"),
    }
    assert sorted(calls.ended) == [("a", "failed"), ("b", "ok")]


async def test_a_broken_invariant_is_no_members_failure() -> None:
    async def broken() -> str:
        raise ZeroDivisionError

    calls = Calls()
    with pytest.raises(ExceptionGroup) as caught:
        await calls.gathering(a=broken, b=calls.waiting("b", asyncio.Event())).run(
            Patience(1, 30, NEVER)
        )
    assert isinstance(caught.value.exceptions[0], ZeroDivisionError)
    assert not calls.running


async def test_a_caller_that_goes_as_the_quorum_answers_leaves_nothing_behind() -> None:
    loop = asyncio.get_running_loop()
    problems: list[object] = []
    loop.set_exception_handler(lambda _, context: problems.append(context))
    calls = Calls()

    async def the_last_straw() -> str:
        running.cancel()
        return "yes"

    gathering = calls.gathering(a=the_last_straw, b=calls.waiting("b", asyncio.Event()))
    running = asyncio.create_task(gathering.run(Patience(1, 5.0, Deadline.after(60))))
    with pytest.raises(asyncio.CancelledError):
        await running
    await asyncio.sleep(0)
    assert not problems
    assert not calls.running


# Relief


def _relieved(
    calls: Calls,
    first: Callable[[], Awaitable[str]],
    *,
    required: int = 1,
    after: float = 0.0,
    **others: Callable[[], Awaitable[str]],
) -> Gathering[str]:
    gathering = calls.gathering(a=first)
    gathering.relief = Relief(others, after, required, NEVER)
    return gathering


async def test_who_is_overdue_is_relieved_and_not_waited_for() -> None:
    calls = Calls()
    gathering = _relieved(calls, calls.waiting("a", asyncio.Event()), b=answer, c=answer)
    results = await gathering.run(Patience(1, math.inf, NEVER))
    assert results == {"a": Late(), "b": Ok("yes"), "c": Ok("yes")}
    assert gathering.calls_made == 3
    assert not calls.running


async def test_nobody_is_relieved_in_time() -> None:
    calls = Calls()
    gathering = _relieved(calls, answer, after=math.inf, b=answer)
    assert await gathering.run(Patience(1, 30, NEVER)) == {"a": Ok("yes")}
    assert gathering.calls_made == 1


async def test_an_answer_that_comes_while_others_relieve_counts() -> None:
    calls, first, second = Calls(), asyncio.Event(), asyncio.Event()
    gathering = _relieved(calls, calls.waiting("a", first), b=calls.waiting("b", second))
    gathering.ended = lambda _member, _outcome, _seconds: second.set()
    running = asyncio.create_task(gathering.run(Patience(1, math.inf, NEVER)))
    while calls.running != {"a", "b"}:
        calls.entered.clear()
        await calls.entered.wait()
    first.set()
    assert await running == {"a": Ok("a"), "b": Ok("b")}


async def test_if_those_that_relieve_fail_the_overdue_are_waited_for_after_all() -> None:
    calls, event = Calls(), asyncio.Event()

    async def fails() -> str:
        event.set()
        raise Unavailable("gone")

    results = await _relieved(calls, calls.waiting("a", event), b=fails).run(
        Patience(1, math.inf, NEVER)
    )
    assert results == {"a": Ok("a"), "b": Failed("UNAVAILABLE: gone", may_pass=True)}


async def test_those_that_relieve_have_a_quorum_of_their_own() -> None:
    """One answer was enough of those asked first; of all it is not, so no grace begins with it."""
    calls, event = Calls(), asyncio.Event()
    gathering = _relieved(
        calls,
        calls.waiting("a", asyncio.Event()),
        required=2,
        b=answer,
        c=calls.waiting("c", event),
    )
    asyncio.get_running_loop().call_later(0.02, event.set)
    results = await gathering.run(Patience(1, 0.0, NEVER))
    assert results == {"a": Late(), "b": Ok("yes"), "c": Ok("c")}


async def test_a_caller_that_goes_before_anybody_is_overdue_leaves_no_timer_behind() -> None:
    loop = asyncio.get_running_loop()
    problems: list[object] = []
    loop.set_exception_handler(lambda _, context: problems.append(context))
    calls, asked = Calls(), asyncio.Event()

    async def relieves() -> str:
        asked.set()
        return "yes"

    gathering = _relieved(calls, calls.waiting("a", asyncio.Event()), after=0.01, b=relieves)
    running = asyncio.create_task(gathering.run(Patience(1, math.inf, NEVER)))
    await calls.entered.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asked.wait(), 0.05)
    assert not problems


async def test_those_that_relieve_have_as_long_as_whom_they_relieve_had() -> None:
    calls, patience = Calls(), Patience(1, math.inf, Deadline.after(0.1))

    async def long() -> str:
        await asyncio.sleep(patience.deadline.remaining + 0.05)
        return "yes"

    gathering = _relieved(calls, calls.waiting("a", asyncio.Event()), b=long)
    assert await gathering.run(patience) == {"a": Late(), "b": Ok("yes")}


async def test_if_the_overdue_answer_first_who_relieves_them_is_as_if_it_was_not_asked() -> None:
    calls, first = Calls(), asyncio.Event()

    async def hangs() -> str:
        first.set()
        await asyncio.Event().wait()
        return "never"

    gathering = _relieved(calls, calls.waiting("a", first), b=hangs, required=2)
    async with asyncio.timeout(10):
        assert await gathering.run(Patience(1, math.inf, NEVER)) == {"a": Ok("a")}
    assert gathering.calls_made == 2
    assert ("b", "cancelled") in calls.ended


async def test_who_was_not_asked_as_time_was_up_does_not_count() -> None:
    calls = Calls()
    gathering = _relieved(calls, answer, b=answer)
    assert await gathering.run(Patience(1, 30, Deadline.after(0))) == {"a": Late()}
    assert gathering.calls_made == 0


async def test_the_overdue_are_enough_only_once_all_of_them_have_ended() -> None:
    calls, some, last = Calls(), asyncio.Event(), asyncio.Event()

    async def hangs() -> str:
        some.set()
        asyncio.get_running_loop().call_later(0.02, last.set)
        await asyncio.Event().wait()
        return "never"

    gathering = calls.gathering(
        a=calls.waiting("a", some), b=calls.waiting("b", some), c=calls.waiting("c", last)
    )
    gathering.relief = Relief({"d": hangs}, 0.0, 4, NEVER)
    async with asyncio.timeout(10):
        results = await gathering.run(Patience(2, math.inf, NEVER))
    assert results == {"a": Ok("a"), "b": Ok("b"), "c": Ok("c")}
