"""The OpenAI-compatible door over members or a fusion that a test plays, and SDKs to ask it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from openai import AsyncOpenAI

from fuser_service.core.types import CommittedRound, FinishReason
from fuser_service.doors.openai.api import Around, application
from fuser_service.doors.openai.exchange import malformed
from fuser_service.fusion.effort import Effort
from fuser_service.fusion.events import Event, Finished, RoundCommitted, Started
from fuser_service.fusion.presence import Presence
from fuser_service.fusion.query import Query
from fuser_service.fusion.readiness import Readiness
from fuser_service.fusion.runner import Fusion
from fuser_service.reports import Reports
from fuser_service.service import FuserService
from fuser_service.settings.settings import Ensemble, Limits
from fuser_service.tenancy.account import Account
from fuser_service.tenancy.admission import Admission
from fuser_service.tenancy.caller import ANONYMOUS, Team
from fuser_service.tenancy.directory import Directory
from fuser_service.tenancy.places import Places, Room
from fuser_service.tenancy.tenants import Tenants
from specfuse.deadline import Deadline
from specfuse.http.bounds import Bounds
from specfuse.http.server import HttpServer
from tests.support.fuser_mesh import FuserMesh, Node, open_mesh
from tests.support.members import RecordingObserver, ScriptedMember, says

HELLO: list[dict[str, Any]] = [{"role": "user", "content": "Which?"}]
"""A conversation."""

OPEN = Directory(teams={}, anonymous=Team(ANONYMOUS))
"""Lets everybody in."""

STARTED = Started("all", ("a", "b"), "s")


def committed(number: int, text: str, **fields: Any) -> RoundCommitted:
    """A round of two tokens, all of its text shown unless `shown` says otherwise."""
    shown = fields.pop("shown", text)
    return RoundCommitted(
        CommittedRound(number, text, shown, "a", 2, (), ("a", "b"), **fields), 0.1, 0.1, 0.2
    )


def finished(text: str = "", reason: FinishReason = FinishReason.STOP) -> Finished:
    """The end of an answer."""
    return Finished(reason, text, 2, 4, 4, 0, 2, 2, (), 1.0)


@dataclass
class PlayedFusion:
    """Says what a test says. An exception among the events is raised, an asyncio event awaited."""

    events: list[Event | BaseException | asyncio.Event]
    queries: list[Query] = field(default_factory=list)
    said: int = 0
    closed: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    async def run(
        self, query: Query, deadline: Deadline, effort: Effort, presence: Presence
    ) -> AsyncGenerator[Event, None]:
        self.queries.append(query)
        try:
            for event in self.events:
                if isinstance(event, BaseException):
                    raise event
                if isinstance(event, asyncio.Event):
                    await event.wait()
                else:
                    self.said += 1
                    yield event
        finally:
            self.closed.release()


@dataclass
class ToldOfRequests:
    """An observer of the service and of the door that remembers."""

    outcomes: list[str] = field(default_factory=list)
    responses: list[tuple[str, int]] = field(default_factory=list)
    accounts: list[Account] = field(default_factory=list)

    def request_started(self) -> None: ...

    def first_segment(self, ensemble: str, seconds: float) -> None: ...

    def tokens_committed(self, ensemble: str, team: str, tokens: int) -> None: ...

    def answered(self, ensemble: str, rounds: int, per_token: float | None) -> None: ...

    def request_ended(self, ensemble: str, outcome: str, seconds: float) -> None:
        self.outcomes.append(outcome)

    def http_responded(self, route: str, status: int) -> None:
        self.responses.append((route, status))


@dataclass
class PlayedDoor:
    """A door over a played fusion."""

    server: HttpServer
    fusion: PlayedFusion
    told: ToldOfRequests

    @property
    def address(self) -> str:
        return self.server.address

    def sdk(self, **options: Any) -> AsyncOpenAI:
        """The SDK, which asks once."""
        return sdk_of(self.address, **options)


def sdk_of(address: str, **options: Any) -> AsyncOpenAI:
    """The SDK, which asks once."""
    return AsyncOpenAI(
        base_url=f"http://{address}/v1", **{"api_key": "k", "max_retries": 0} | options
    )


@asynccontextmanager
async def open_played(
    *events: Event | BaseException | asyncio.Event,
    bounds: Bounds | None = None,
    tls: Any = None,
    timeout_seconds: float = 60.0,
    directory: Directory | None = None,
    **around: Any,
) -> AsyncIterator[PlayedDoor]:
    """A door over a fusion that says this."""
    fusion, told = PlayedFusion(list(events)), ToldOfRequests()
    members = {name: ScriptedMember(name, says()) for name in "ab"}
    service = FuserService(
        cast("Fusion", fusion),
        ensembles={"all": Ensemble(members=("a", "b"), request_timeout_seconds=timeout_seconds)},
        readiness=Readiness(members, RecordingObserver(), 64),
        limits=Limits(),
        tenants=Tenants(Admission(Places(Room(64))), directory or OPEN),
        reports=Reports(told, told.accounts.append),
    )
    bounds = bounds or Bounds()
    around_it = Around(told, bounds=bounds, **around)
    server = HttpServer(
        application(service, around_it), bounds=bounds, malformed=malformed, tls=tls
    )
    await server.start()
    try:
        yield PlayedDoor(server, fusion, told)
    finally:
        await server.stop()


@asynccontextmanager
async def open_openai_mesh(
    answers: Mapping[str, str], **settings: Any
) -> AsyncIterator[tuple[FuserMesh, dict[str, Node], AsyncOpenAI]]:
    """Members that each write one answer, a fuser over them with both doors, and the SDK."""
    top = {"http": {"listen": "127.0.0.1:0"}, **settings.pop("top", {})}
    async with (
        open_mesh(answers, top=top, **settings) as (mesh, nodes),
        sdk_of(mesh.fuser.http_address) as sdk,
    ):
        yield mesh, nodes, sdk
