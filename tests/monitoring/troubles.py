"""What goes wrong under the eyes of Prometheus, and which alerts tell of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from tests.monitoring.watched import PLACES, Watched, ask
from tests.robustness import questions
from tests.robustness.faults import Fault, Hung, Killed
from tests.robustness.mesh import Mesh

Trouble = Callable[[Watched], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True)
class Slow:
    """Everything to and from the only replica of a member takes half a second longer."""

    target: str

    def available(self, mesh: Mesh) -> bool:
        """Whether the mesh has it."""
        return self.target in mesh.nodes

    async def inject(self, mesh: Mesh) -> None:
        """Delays both directions."""
        mesh.nodes[self.target].link.delay_seconds = 0.5

    async def heal(self, mesh: Mesh) -> None:
        """Ends the delay."""
        mesh.nodes[self.target].link.delay_seconds = 0.0


def done_by(*faults: Fault) -> Trouble:
    """The trouble that faults of the robustness suite are."""

    @asynccontextmanager
    async def trouble(watched: Watched) -> AsyncIterator[None]:
        for fault in faults:
            await fault.inject(watched.mesh)
        try:
            yield
        finally:
            for fault in faults:
                await fault.heal(watched.mesh)

    return trouble


@asynccontextmanager
async def team_at_its_limit(watched: Watched) -> AsyncIterator[None]:
    """A team asks again and again, and has had what it may have."""
    asking = [
        asyncio.create_task(_insist(watched, "mail", questions.QUESTIONS[0], 0.5)) for _ in range(2)
    ]
    try:
        yield
    finally:
        await _end(asking)


@asynccontextmanager
async def overload(watched: Watched) -> AsyncIterator[None]:
    """All places are taken by questions that nobody answers."""
    asking = [
        asyncio.create_task(_insist(watched, "search", questions.NEVER, 120.0))
        for _ in range(PLACES)
    ]
    try:
        yield
    finally:
        await _end(asking)


@asynccontextmanager
async def one_member_knows_all(watched: Watched) -> AsyncIterator[None]:
    """Only what one member knows is asked."""
    asked, watched.asked = watched.asked, questions.QUESTIONS[:1]
    try:
        yield
    finally:
        watched.asked = asked


@asynccontextmanager
async def scaler_wants_nothing(watched: Watched) -> AsyncIterator[None]:
    """The autoscaler of a member that is asked wants no replicas."""
    watched.exporter.desired_replicas = 0
    try:
        yield
    finally:
        watched.exporter.desired_replicas = 1


@asynccontextmanager
async def certificate_ends(watched: Watched) -> AsyncIterator[None]:
    """The certificate of the HTTP door is one of a day."""
    watched.expires(days=1)
    try:
        yield
    finally:
        watched.expires(days=60)


async def _insist(watched: Watched, team: str, question: str, seconds: float) -> None:
    while True:
        await ask(watched, team, question, seconds)
        await asyncio.sleep(0.05)  # what matters is what is refused, not how much work that is


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class Case:
    """A trouble and the alerts that tell of it. `lasting` ones look back for hours."""

    name: str
    trouble: Trouble
    alerts: tuple[str, ...]
    lasting: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name


SHORT = (
    Case("a member is dead", done_by(Killed("gamma-0")), ("MemberDown", "EnsembleDegraded")),
    Case("a team at its limit", team_at_its_limit, ("TeamAtLimit",)),
    Case("an autoscaler that does nothing", scaler_wants_nothing, ("ScalerInert",)),
)
LONG = (
    Case(
        "a member is slow",
        done_by(Slow("gamma-0")),
        ("StragglerDominates", "RoundLatencyHigh", "FirstSegmentSlow"),
    ),
    Case(
        "two members hang",
        done_by(Hung("beta-0"), Hung("gamma-0")),
        ("QuorumLost",),
        ("ErrorBudgetBurn",),
    ),
    Case("overload", overload, ("OverloadRefusals",)),
    Case("one member knows it all", one_member_knows_all, ("WinShareCollapse",)),
    Case("a certificate ends", certificate_ends, ("CertificateExpiresSoon",)),
    Case("the fuser is dead", done_by(Killed("fuser-0")), ("NoTraffic",)),
)
