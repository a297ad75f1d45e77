"""Takes on queries: permission, admission, resolution, time limits, and the numbers of each."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial

from fuser_service.core.types import MemberName
from fuser_service.fusion.events import Event
from fuser_service.fusion.presence import Presence
from fuser_service.fusion.query import Query
from fuser_service.fusion.readiness import Readiness
from fuser_service.fusion.runner import Fusion
from fuser_service.reports import Reports
from fuser_service.settings.settings import Ensemble, Limits
from fuser_service.tenancy.caller import Caller, Credentials
from fuser_service.tenancy.tenants import Tenants
from fuser_service.validation import GenerateRequest, resolve
from specfuse.deadline import Deadline
from specfuse.errors import (
    Forbidden,
    InvalidArgument,
    NotFound,
    Unauthenticated,
)

_SHOWN_NAME_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class EnsembleStatus:
    """An ensemble that can be asked, and which of its members can be reached now."""

    name: str
    members: tuple[MemberName, ...]
    ready_members: tuple[MemberName, ...]
    quorum: int
    max_tokens_limit: int
    wakes: bool = False
    """Whether requests wait for members that are not awake, and so wake them."""

    @property
    def ready(self) -> bool:
        """Whether it can be asked: enough members can be reached to answer, or are waited for."""
        return self.wakes or len(self.ready_members) >= self.quorum


class FuserService:
    """Answers requests with the ensembles it is given.

    `readiness` knows all members of all ensembles: those that `fusion` asks. `tenants` says who may
    ask, and `reports` is told of each request.
    """

    def __init__(
        self,
        fusion: Fusion,
        *,
        ensembles: Mapping[str, Ensemble],
        readiness: Readiness,
        limits: Limits,
        tenants: Tenants,
        reports: Reports,
    ) -> None:
        self._fusion = fusion
        self._ensembles = dict(ensembles)
        self._readiness = readiness
        self._limits = limits
        self._tenants = tenants
        self._reports = reports

    def take(self, ensembles: Mapping[str, Ensemble]) -> None:
        """Answers new requests with these ensembles, whose members it must know.

        Requests that wait are as good as new: of one whose ensemble is gone, nobody waits for
        members to wake, and one whose ensemble is another now waits for those that this one has.
        What has begun to be answered goes on as it was.
        """
        self._ensembles = dict(ensembles)
        self._readiness.look_again()

    def caller(self, credentials: Credentials) -> Caller:
        """Who makes a call that shows these credentials. A refusal counts as a request.

        Raises:
            Unauthenticated: nobody who is known here.
        """
        try:
            return self._tenants.caller(credentials)
        except Unauthenticated:
            self._reports.refused(None, "unauthenticated")
            raise

    def ensembles(self, caller: Caller | None = None) -> tuple[EnsembleStatus, ...]:
        """The ensembles that the caller may ask, by name; all of them, if nobody in particular."""
        names = sorted(self._ensembles) if caller is None else self._asked_by(caller)
        return tuple(self._status(name) for name in names)

    async def generate(
        self, request: GenerateRequest, caller: Caller, deadline: Deadline
    ) -> AsyncGenerator[Event, None]:
        """Answers a request, an event at a time.

        It ends by the time `deadline_of` says, also if whoever iterates comes too late. Closing the
        generator, or cancelling the task that iterates it, ends all its work at once.

        Raises:
            InvalidArgument: a field is wrong.
            NotFound: there is no such ensemble.
            Forbidden: the caller may not ask it.
            RateLimited: the caller's team has had what it may have.
            Overloaded: as many requests as are allowed are in flight, or wait for members to wake.
            Unavailable: too few members woke in time; says when to ask again.
            QuorumLost, DeadlineExceeded: see `Fusion.run`.
        """
        with self._reports.record(caller, request.request_id, deadline) as record:
            request = replace(request, ensemble=self._asked(request, caller))
            record.ensemble = request.ensemble
            self._check_permission(request.ensemble, caller)
            async with self._tenants.admitted(caller, record.output_tokens):
                deadline = self.deadline_of(request, caller, deadline)
                with self._readiness.presence(request.ensemble) as presence:
                    await self._members_awake(request, caller, presence, deadline)
                    async with self._tenants.place(caller, deadline):
                        query = self._resolve(request, caller)
                        run = self._fusion.run(query, deadline, record.effort, presence)
                        async with aclosing(run) as events:
                            async for event in events:
                                record.saw(event)
                                yield event

    def deadline_of(self, request: GenerateRequest, caller: Caller, deadline: Deadline) -> Deadline:
        """By when the answer ends: the caller's deadline, or the ensemble's limit from now on.

        A door that cannot hand an event over by then must give up, or the answer keeps its place
        for as long as its reader likes.
        """
        names = [request.ensemble] if request.ensemble else self._asked_by(caller)
        ensemble = self._ensembles.get(names[0]) if len(names) == 1 else None  # else it is refused
        return deadline if ensemble is None else deadline.within(ensemble.request_timeout_seconds)

    def refused(self, caller: Caller, request_id: str) -> None:
        """Counts a request that a door could make no sense of: an invalid argument."""
        self._reports.refused(caller, "invalid_argument", request_id)

    def _asked(self, request: GenerateRequest, caller: Caller) -> str:
        """The name of the ensemble that is asked, which there is."""
        name = request.ensemble or self._only_ensemble(caller)
        self._ensemble(name, caller)
        return name

    def _ensemble(self, name: str, caller: Caller) -> Ensemble:
        """The ensemble of the name now: it may be dropped, or another one, while requests wait."""
        ensemble = self._ensembles.get(name)
        if ensemble is None:
            asked = repr(name[:_SHOWN_NAME_CHARACTERS])
            message = f"ensemble: there is no {asked}; there are: {self._names(caller)}"
            raise NotFound(message, field="ensemble")
        return ensemble

    def _check_permission(self, name: str, caller: Caller) -> None:
        if not caller.team.may_ask(name):
            message = f"ensemble: {caller.team.name} may not ask {name}, but: {self._names(caller)}"
            raise Forbidden(message, field="ensemble")

    async def _members_awake(
        self, request: GenerateRequest, caller: Caller, presence: Presence, deadline: Deadline
    ) -> None:
        """Returns once enough members are awake, if the ensemble waits for that.

        The request has no place meanwhile, which others can use that can be answered. It is looked
        at before: nobody waits to be told that a field is wrong. From here on its `presence` counts
        on all members, whatever else it waits for.
        """
        name = request.ensemble
        ensemble = self._ensemble(name, caller)
        while ensemble.wake_seconds and self._readiness.awake(ensemble.members) < ensemble.quorum:
            stands = partial(self._is_still, name, ensemble)
            query = self._resolve(request, caller)
            await self._readiness.quorum(query, presence, deadline, stands)
            ensemble = self._ensemble(name, caller)
        presence.of(ensemble.members)

    def _is_still(self, name: str, ensemble: Ensemble) -> bool:
        return self._ensembles.get(name) == ensemble

    def _resolve(self, request: GenerateRequest, caller: Caller) -> Query:
        ensemble = self._ensemble(request.ensemble, caller)
        return resolve(request, request.ensemble, ensemble, self._limits)

    def _only_ensemble(self, caller: Caller) -> str:
        names = self._asked_by(caller)
        if not names:
            raise Forbidden(f"ensemble: there is none that {caller.team.name} may ask")
        if len(names) > 1:
            raise InvalidArgument("ensemble", f"is empty; name one of: {self._names(caller)}")
        return names[0]

    def _asked_by(self, caller: Caller) -> list[str]:
        return [name for name in sorted(self._ensembles) if caller.team.may_ask(name)]

    def _names(self, caller: Caller) -> str:
        return ", ".join(self._asked_by(caller)) or "none"

    def _status(self, name: str) -> EnsembleStatus:
        ensemble = self._ensembles[name]
        return EnsembleStatus(
            name=name,
            members=ensemble.members,
            ready_members=self._readiness.ready(ensemble.members),
            quorum=ensemble.quorum,
            max_tokens_limit=ensemble.max_tokens_limit,
            wakes=ensemble.wake_seconds > 0,
        )
