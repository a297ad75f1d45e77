"""Takes on queries: admission, resolution, time limits, and the numbers of each query."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from fuser_service.core.types import MemberName
from fuser_service.fusion.events import Event, Finished, RoundCommitted
from fuser_service.fusion.ports import Member
from fuser_service.fusion.query import Query
from fuser_service.fusion.runner import TIMER_SLACK_SECONDS, Fusion
from fuser_service.settings.settings import Ensemble, Limits
from fuser_service.validation import GenerateRequest, resolve
from specfuse.deadline import Deadline
from specfuse.errors import Code, InvalidArgument, NotFound, Overloaded, SpecFuseError

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

_SHOWN_NAME_CHARACTERS = 64


class RequestObserver(Protocol):
    """Told what becomes of requests. Called on the event loop; must be fast and must not raise."""

    def request_started(self) -> None:
        """A request came in."""

    def first_segment(self, seconds: float) -> None:
        """A request's first segment was committed, this long after it came in."""

    def tokens_committed(self, ensemble: str, team: str, tokens: int) -> None:
        """A segment of this many tokens was committed. `team` is what the caller named."""

    def answered(self, rounds: int, seconds_per_token: float | None) -> None:
        """An answer was completed in this many rounds.

        `seconds_per_token` is the mean over the tokens after the first segment; None if there were
        none.
        """

    def request_ended(self, outcome: RequestOutcome, seconds: float) -> None:
        """A request ended. Every one that started does."""


@dataclass(frozen=True, slots=True)
class EnsembleStatus:
    """An ensemble that can be asked, and which of its members can be reached now."""

    name: str
    members: tuple[MemberName, ...]
    ready_members: tuple[MemberName, ...]
    quorum: int
    max_tokens_limit: int

    @property
    def ready(self) -> bool:
        """Whether enough members can be reached to answer."""
        return len(self.ready_members) >= self.quorum


class FuserService:
    """Answers requests with the ensembles it is given.

    `members` are all members of all ensembles, by name: those that `fusion` asks.
    """

    def __init__(
        self,
        fusion: Fusion,
        *,
        ensembles: Mapping[str, Ensemble],
        members: Mapping[MemberName, Member],
        limits: Limits,
        observer: RequestObserver,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fusion = fusion
        self._ensembles = dict(ensembles)
        self._members = dict(members)
        self._limits = limits
        self._observer = observer
        self._clock = clock
        self._in_flight = 0

    def take(self, ensembles: Mapping[str, Ensemble]) -> None:
        """Answers new requests with these ensembles, whose members it must know."""
        self._ensembles = dict(ensembles)

    def ensembles(self) -> tuple[EnsembleStatus, ...]:
        """All ensembles, by name."""
        return tuple(self._status(name) for name in sorted(self._ensembles))

    async def generate(
        self, request: GenerateRequest, deadline: Deadline
    ) -> AsyncGenerator[Event, None]:
        """Answers a request, an event at a time.

        It ends by the time `deadline_of` says, also if whoever iterates comes too late. Closing the
        generator, or cancelling the task that iterates it, ends all its work at once.

        Raises:
            InvalidArgument: a field is wrong.
            NotFound: there is no such ensemble.
            Overloaded: as many requests as are allowed are in flight.
            QuorumLost, DeadlineExceeded: see `Fusion.run`.
        """
        record = _Record(self._observer, self._clock, request.team, deadline)
        with record, self._admitted():
            query = self._resolve(request)
            deadline = self.deadline_of(request, deadline)
            async with aclosing(self._fusion.run(query, deadline)) as events:
                async for event in events:
                    record.saw(event, query.ensemble)
                    yield event

    def deadline_of(self, request: GenerateRequest, deadline: Deadline) -> Deadline:
        """By when the answer ends: the caller's deadline, or the ensemble's limit from now on.

        A door that cannot hand an event over by then must give up, or the answer keeps its place
        for as long as its reader likes.
        """
        names = [request.ensemble] if request.ensemble else [*self._ensembles]
        ensemble = self._ensembles.get(names[0]) if len(names) == 1 else None  # else it is refused
        return deadline if ensemble is None else deadline.within(ensemble.request_timeout_seconds)

    def refused(self, error: SpecFuseError) -> None:
        """Counts a request that a door refused: it made no sense of it, or of who makes it."""
        self._observer.request_started()
        self._observer.request_ended(_outcome_of(error), 0.0)

    def _resolve(self, request: GenerateRequest) -> Query:
        name = request.ensemble or self._only_ensemble()
        ensemble = self._ensembles.get(name)
        if ensemble is None:
            asked = repr(name[:_SHOWN_NAME_CHARACTERS])
            message = f"ensemble: there is no {asked}; there are: {self._names()}"
            raise NotFound(message, field="ensemble")
        return resolve(request, name, ensemble, self._limits)

    def _only_ensemble(self) -> str:
        if len(self._ensembles) > 1:
            raise InvalidArgument("ensemble", f"is empty; name one of: {self._names()}")
        return next(iter(self._ensembles))

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        """A place among the requests in flight, or `Overloaded` at once."""
        limit = self._limits.requests_in_flight
        if self._in_flight >= limit:
            raise Overloaded(
                f"{limit} requests are in flight, the limit; retry later", limit=str(limit)
            )
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1

    def _names(self) -> str:
        return ", ".join(sorted(self._ensembles))

    def _status(self, name: str) -> EnsembleStatus:
        ensemble = self._ensembles[name]
        return EnsembleStatus(
            name=name,
            members=ensemble.members,
            ready_members=tuple(one for one in ensemble.members if self._members[one].ready),
            quorum=ensemble.quorum,
            max_tokens_limit=ensemble.max_tokens_limit,
        )


class _Record:
    """The numbers of one request, told to the observer as they arise."""

    def __init__(
        self,
        observer: RequestObserver,
        clock: Callable[[], float],
        team: str,
        deadline: Deadline,
    ) -> None:
        self._observer = observer
        self._clock = clock
        self._team = team
        self._deadline = deadline
        self._began = clock()
        self._first_segment_at: float | None = None
        self._tokens_after_first = 0
        self._outcome: RequestOutcome = "ok"

    def __enter__(self) -> _Record:
        self._observer.request_started()
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None:
            self._outcome = _outcome_of(error)
        # A server ends a call whose deadline passed as if its caller had gone away.
        if self._outcome == "cancelled" and self._deadline.remaining < TIMER_SLACK_SECONDS:
            self._outcome = "deadline_exceeded"
        self._observer.request_ended(self._outcome, self._clock() - self._began)

    def saw(self, event: Event, ensemble: str) -> None:
        """Takes note of an event that is about to be passed on."""
        if isinstance(event, RoundCommitted):
            self._observer.tokens_committed(ensemble, self._team, event.round.token_count)
            if self._first_segment_at is None:
                self._first_segment_at = self._clock()
                self._observer.first_segment(self._first_segment_at - self._began)
            else:
                self._tokens_after_first += event.round.token_count
        elif isinstance(event, Finished):
            self._outcome = "degraded" if event.degraded else "ok"
            self._observer.answered(event.rounds, self._seconds_per_token())

    def _seconds_per_token(self) -> float | None:
        if self._first_segment_at is None or not self._tokens_after_first:
            return None
        return (self._clock() - self._first_segment_at) / self._tokens_after_first


def _outcome_of(error: BaseException) -> RequestOutcome:
    match error:
        case SpecFuseError():
            return _OUTCOMES.get(error.code, "internal")
        case asyncio.CancelledError() | GeneratorExit():
            return "cancelled"
        case _:
            return "internal"
