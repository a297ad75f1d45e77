"""What is told of each request: numbers as they arise, how it ended, and what it came to."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from fuser_service.fusion.effort import Effort
from fuser_service.fusion.events import Event, Finished, RoundCommitted
from fuser_service.fusion.runner import TIMER_SLACK_SECONDS
from fuser_service.tenancy.account import Account
from fuser_service.tenancy.caller import Caller
from specfuse.deadline import Deadline
from specfuse.errors import Code, SpecFuseError
from specfuse.observability.tracing.current import span_id, trace_id

RequestOutcome = Literal[
    "ok",
    "degraded",
    "invalid_argument",
    "unauthenticated",
    "forbidden",
    "not_found",
    "rate_limited",
    "resource_exhausted",
    "deadline_exceeded",
    "cancelled",
    "unavailable",
    "internal",
]
"""How a request ended: an answer (`degraded` if a member was missing), or its error."""

_OUTCOMES: Final[Mapping[Code, RequestOutcome]] = {
    Code.INVALID_ARGUMENT: "invalid_argument",
    Code.UNAUTHENTICATED: "unauthenticated",
    Code.FORBIDDEN: "forbidden",
    Code.NOT_FOUND: "not_found",
    Code.RATE_LIMITED: "rate_limited",
    Code.OVERLOADED: "resource_exhausted",
    Code.DEADLINE_EXCEEDED: "deadline_exceeded",
    Code.CANCELLED: "cancelled",
    Code.UNAVAILABLE: "unavailable",
}
"""Outcomes of errors, by code. Any other is `internal`."""


class RequestObserver(Protocol):
    """Told what becomes of requests. Called on the event loop; must be fast and must not raise."""

    def request_started(self) -> None:
        """A request came in."""

    def first_segment(self, ensemble: str, seconds: float) -> None:
        """A request's first segment was committed, this long after it came in."""

    def tokens_committed(self, ensemble: str, team: str, tokens: int) -> None:
        """A segment of this many tokens was committed to a caller of the team."""

    def answered(self, ensemble: str, rounds: int, seconds_per_token: float | None) -> None:
        """An answer was completed in this many rounds.

        `seconds_per_token` is the mean over the tokens after the first segment; None if there were
        none.
        """

    def request_ended(self, ensemble: str, outcome: RequestOutcome, seconds: float) -> None:
        """A request ended. Every one that started does.

        The ensemble is empty where none was asked that there is.
        """


Book = Callable[[Account], None]
"""Told what a request came to, once it has ended. Must be fast and must not raise."""


@dataclass(frozen=True, slots=True)
class Reports:
    """Whom to tell of requests, and the clock that they are timed by."""

    observer: RequestObserver
    book: Book
    clock: Callable[[], float] = time.monotonic

    def record(self, caller: Caller, request_id: str, deadline: Deadline) -> Record:
        """The record of a request that has just come in; an empty id is replaced by a new one."""
        return Record(self, caller, request_id or new_request_id(), deadline)

    def refused(self, caller: Caller | None, outcome: RequestOutcome, request_id: str = "") -> None:
        """A request ended at the door: of somebody unknown, or with no sense in it.

        An empty id is replaced by a new one.
        """
        self.observer.request_started()
        self.observer.request_ended("", outcome, 0.0)
        self.book(
            Account(
                request_id=request_id or new_request_id(),
                team=caller.team.name if caller else "",
                key=caller.key if caller else "",
                ensemble="",
                outcome=outcome,
                seconds=0.0,
            )
        )


class Record:
    """One request, from its coming in (entering the context) to its end."""

    def __init__(
        self, reports: Reports, caller: Caller, request_id: str, deadline: Deadline
    ) -> None:
        """Numbers go to `reports`. The `ensemble` is set once it is known, `effort` added to."""
        self.ensemble = ""
        self.effort = Effort()
        self._observer = reports.observer
        self._book = reports.book
        self._clock = reports.clock
        self._caller = caller
        self._request_id = request_id
        self._deadline = deadline
        self._began = reports.clock()
        self._first_segment_at: float | None = None
        self._tokens_after_first = 0
        self._outcome: RequestOutcome = "ok"

    def __enter__(self) -> Record:
        self._observer.request_started()
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None:
            self._outcome = _outcome_of(error)
        # A server ends a call whose deadline passed as if its caller had gone away.
        if self._outcome == "cancelled" and self._deadline.remaining < TIMER_SLACK_SECONDS:
            self._outcome = "deadline_exceeded"
        seconds = self._clock() - self._began
        self._observer.request_ended(self.ensemble, self._outcome, seconds)
        self._book(self._account(seconds))

    def output_tokens(self) -> int:
        """The tokens that were committed so far."""
        return self.effort.output_tokens

    def saw(self, event: Event) -> None:
        """Takes note of an event that is about to be passed on."""
        if isinstance(event, RoundCommitted):
            tokens = event.round.token_count
            self._observer.tokens_committed(self.ensemble, self._caller.team.name, tokens)
            if self._first_segment_at is None:
                self._first_segment_at = self._clock()
                seconds = self._first_segment_at - self._began
                self._observer.first_segment(self.ensemble, seconds)
            else:
                self._tokens_after_first += event.round.token_count
        elif isinstance(event, Finished):
            self._outcome = "degraded" if event.degraded else "ok"
            self._observer.answered(self.ensemble, event.rounds, self._seconds_per_token())

    def _account(self, seconds: float) -> Account:
        return Account(
            request_id=self._request_id,
            team=self._caller.team.name,
            key=self._caller.key,
            ensemble=self.ensemble,
            outcome=self._outcome,
            seconds=seconds,
            prompt_tokens=self.effort.prompt_tokens,
            output_tokens=self.effort.output_tokens,
            calls_made=self.effort.made.total(),
            calls_avoided=self.effort.avoided.total(),
        )

    def _seconds_per_token(self) -> float | None:
        if self._first_segment_at is None or not self._tokens_after_first:
            return None
        return (self._clock() - self._first_segment_at) / self._tokens_after_first


def new_request_id() -> str:
    """An id that no other request has. Of one that is traced: the ids of its trace and its span."""
    trace = trace_id()
    return f"{trace}-{span_id()}" if trace else uuid.uuid4().hex


def _outcome_of(error: BaseException) -> RequestOutcome:
    match error:
        case SpecFuseError():
            return _OUTCOMES.get(error.code, "internal")
        case asyncio.CancelledError() | GeneratorExit():
            return "cancelled"
        case _:
            return "internal"
