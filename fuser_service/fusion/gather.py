"""Asks members concurrently and waits no longer than is worthwhile.

The result of a call is a value: a member that fails or is late never disturbs the others. Once the
required number have answered, the rest have a grace period; a member not done by then is late, and
its call is cancelled. Where others can relieve those that are asked, they are asked as well once
these are overdue, and these are waited for only until enough of the others have answered, or the
others until these have.
Cancelling the caller cancels every call at once.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from fuser_service.core.steps import Busy, Failed, Late, Ok, Refused, Result
from fuser_service.core.types import MemberName
from fuser_service.fusion.ports import Outcome
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

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long calls are waited for.

    Until `deadline`, but for at most `grace_seconds` after `required` of them were answered.
    """

    required: int
    grace_seconds: float
    deadline: Deadline


@dataclass(frozen=True, slots=True)
class Relief(Generic[Answer]):
    """Calls to other members, made as well once the first have had `after_seconds` to answer.

    From then on `required` answers of all are enough, all are waited for until `deadline`, and the
    first not longer than those that relieve them. If the first answer after all, they are enough:
    whoever relieves them and has not answered by then has no result, as if it had not been asked.
    """

    calls: Mapping[MemberName, Callable[[], Awaitable[Answer]]]
    after_seconds: float
    required: int
    deadline: Deadline


@dataclass(slots=True)
class Gathering(Generic[Answer]):
    """Calls to several members, each made once.

    `clock` counts seconds. `ended` is told of every call when it ends: the member, how it ended and
    how many seconds it took. After `run`, `errors` holds what members raised, and
    `straggled_seconds` how long late ones were waited for beyond the quorum (None if none were).
    It has made `calls_made`: of `relief` some only if it came to that, and none that was cancelled
    before it began.
    """

    calls: Mapping[MemberName, Callable[[], Awaitable[Answer]]]
    ended: Callable[[MemberName, Outcome, float], None]
    clock: Callable[[], float]
    relief: Relief[Answer] | None = None
    errors: dict[MemberName, SpecFuseError] = field(default_factory=dict)
    straggled_seconds: float | None = None
    calls_made: int = 0
    _tasks: dict[MemberName, asyncio.Task[Result[Answer]]] = field(default_factory=dict)
    _left: set[MemberName] = field(default_factory=set)
    _overdue: frozenset[MemberName] = frozenset()
    _required: int = 0
    _answered: set[MemberName] = field(default_factory=set)
    _needless: frozenset[MemberName] = frozenset()
    _has_quorum: bool = False
    _quorum_at: float | None = None
    _all_ended: asyncio.Event = field(default_factory=asyncio.Event)
    _limit: asyncio.Timeout | None = None  # while it waits
    _over: bool = False

    async def run(self, patience: Patience) -> dict[MemberName, Result[Answer]]:
        """Makes the calls; returns when all have ended, or patience runs out."""
        self._required = patience.required
        async with asyncio.TaskGroup() as group:
            self._make(self.calls, patience, group)
            with self._relieved_later(patience, group):
                await self._wait(patience.deadline)
            self._over = True
            if self._answered_after_all(patience.required):
                self._needless = frozenset(self._left)
            for task in self._tasks.values():
                task.cancel()
        # A call cancelled before its first step never ran, and has no result of its own.
        tasks = [(m, task) for m, task in self._tasks.items() if m not in self._needless]
        return {m: Late() if task.cancelled() else task.result() for m, task in tasks}

    def _make(
        self,
        calls: Mapping[MemberName, Callable[[], Awaitable[Answer]]],
        patience: Patience,
        group: asyncio.TaskGroup,
    ) -> None:
        self._left |= calls.keys()
        for member, call in calls.items():
            self._tasks[member] = group.create_task(self._call(member, call, patience))

    @contextmanager
    def _relieved_later(self, patience: Patience, group: asyncio.TaskGroup) -> Iterator[None]:
        """Has those that are overdue relieved meanwhile, unless enough have answered by then."""
        relief = self.relief
        if relief is None or not math.isfinite(relief.after_seconds):
            yield
            return

        def relieve() -> None:
            if self._left and not self._has_quorum and self._wait_until(relief.deadline):
                self._overdue = frozenset(self._left)
                self._required = relief.required
                self._make(relief.calls, patience, group)

        timer = asyncio.get_running_loop().call_later(relief.after_seconds, relieve)
        try:
            yield
        finally:
            timer.cancel()

    async def _wait(self, deadline: Deadline) -> None:
        """Returns when all calls have ended, or the deadline or the grace period has passed."""
        if not deadline.passed:
            self._limit = limit = asyncio.timeout(deadline.timeout)
            with suppress(TimeoutError):
                async with limit:
                    try:
                        await self._all_ended.wait()
                    finally:
                        self._limit = None
        if self._quorum_at is not None:
            self.straggled_seconds = self.clock() - self._quorum_at

    def _wait_until(self, deadline: Deadline) -> bool:
        """Waits for longer than was planned. Returns whether it does: not once the wait is over."""
        limit = self._limit
        if limit is None or limit.expired() or deadline.passed:
            return False
        seconds = deadline.timeout
        limit.reschedule(None if seconds is None else asyncio.get_running_loop().time() + seconds)
        return True

    def _count(self, member: MemberName, result: Result[Answer], patience: Patience) -> None:
        """A call has ended: the last one ends the wait, the quorum's begins the grace period."""
        self._left.discard(member)
        if isinstance(result, Ok):
            self._answered.add(member)
        has_quorum = len(self._answered) >= self._required
        waited_for = self._left - self._overdue if has_quorum else self._left
        if not waited_for or self._answered_after_all(patience.required):
            self._all_ended.set()
        elif not self._has_quorum and has_quorum:
            self._has_quorum = True
            # Who answers in the same turn of the loop is not waited for.
            asyncio.get_running_loop().call_soon(self._wait_at_most, patience.grace_seconds)

    def _answered_after_all(self, required: int) -> bool:
        """Whether those that were to be relieved need not be: all asked first have ended."""
        first = self.calls.keys()
        return (
            bool(self._overdue)
            and not self._left & first
            and len(self._answered & first) >= required
        )

    def _wait_at_most(self, seconds: float) -> None:
        if not self._left or self._limit is None:
            return
        self._quorum_at = self.clock()
        by = asyncio.get_running_loop().time() + seconds
        planned = self._limit.when()
        if math.isfinite(by) and not self._limit.expired():
            self._limit.reschedule(by if planned is None else min(by, planned))

    async def _call(
        self, member: MemberName, call: Callable[[], Awaitable[Answer]], patience: Patience
    ) -> Result[Answer]:
        self.calls_made += 1
        began = self.clock()
        outcome: Outcome = "cancelled"
        try:
            result: Result[Answer] = Ok(await call())
            outcome = "ok"
        except SpecFuseError as error:
            self.errors[member] = error
            result, outcome = meaning_of(error)
        except asyncio.CancelledError:
            if self._over:
                result, outcome = Late(), "cancelled" if member in self._needless else "late"
            elif _being_cancelled():
                raise
            else:  # not cancelled here: a transport that closes during a call does this
                detail = "CANCELLED: the member gave the call up"
                result, outcome = Failed(detail, may_pass=True), "failed"
        finally:
            self.ended(member, outcome, self.clock() - began)
        self._count(member, result, patience)
        return result


def meaning_of(error: SpecFuseError) -> tuple[Failed | Refused | Busy | Late, Outcome]:
    """What a member's error means for the query, and how its call ended."""
    detail = f"{error.reason}: {error.message}"
    match error:
        case DeadlineExceeded():
            return Late(), "late"
        case Overloaded() | RateLimited():
            return Busy(), "overloaded"
        case InvalidArgument():
            return Refused(detail, outgrown=isinstance(error, ContextTooLong)), "rejected"
        case Unavailable() if not isinstance(error, RevisionLost):
            return Failed(detail, may_pass=True), "failed"
        case _:
            return Failed(detail), "failed"


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
