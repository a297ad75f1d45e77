"""What goes wrong under the eyes of Prometheus, and which alerts tell of it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from itertools import count, cycle
from typing import Any

from deploy.monitoring.alerts import catalogue
from tests.monitoring import signs
from tests.monitoring.shape import ALL, ASKED, EXITING, MODELS, PLACES
from tests.monitoring.signs import Sign
from tests.monitoring.watched import Caller, Told, Watched, ask
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


@dataclass(frozen=True, slots=True)
class AnotherRevision:
    """A replica is started again with another model: of a scripted one, with another script."""

    target: str

    def available(self, mesh: Mesh) -> bool:
        """Whether the mesh has it."""
        return self.target in mesh.nodes

    async def inject(self, mesh: Mesh) -> None:
        """Has it start with a window of a word less."""
        script = mesh.nodes[self.target].settings["scripted"]
        await self._start_again(mesh, script | {"context_window": 4095})

    async def heal(self, mesh: Mesh) -> None:
        """Has it start with its own script again."""
        script = mesh.nodes[self.target].settings["scripted"]
        kept = {key: value for key, value in script.items() if key != "context_window"}
        await self._start_again(mesh, kept)

    async def _start_again(self, mesh: Mesh, script: Mapping[str, Any]) -> None:
        node = mesh.nodes[self.target]
        node.signal(signal.SIGTERM)
        await node.ended()
        node.settings["scripted"] = dict(script)
        await node.start()


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


def all_ask(asked: Mapping[str, tuple[str, ...]]) -> Trouble:
    """The callers ask this, by ensemble, and nothing else."""

    @asynccontextmanager
    async def trouble(watched: Watched) -> AsyncIterator[None]:
        before, watched.asked = watched.asked, asked
        try:
            yield
        finally:
            watched.asked = before

    return trouble


def more_ask(*callers: tuple[Caller, Iterable[str]]) -> Trouble:
    """There are more callers, who ask one question after the other without a rest."""

    @asynccontextmanager
    async def trouble(watched: Watched) -> AsyncIterator[None]:
        asking = [
            asyncio.create_task(_insist(watched, caller, questions))
            for caller, questions in callers
        ]
        try:
            yield
        finally:
            for one in asking:
                one.cancel()
            await asyncio.gather(*asking, return_exceptions=True)

    return trouble


async def _insist(watched: Watched, caller: Caller, questions_: Iterable[str]) -> None:
    for question in questions_:
        await ask(watched, caller, question)
        await asyncio.sleep(0.05)  # what matters is what comes of it, not how much work that is


def _long_questions(number: int) -> Iterator[str]:
    """Questions that begin alike for nobody: each needs a context of its own, of 170 tokens."""
    for turn in count():
        sums = (
            f"{10 + (7 * number + 3 * at) % 90} plus {10 + (turn + at) % 90}" for at in range(11)
        )
        yield " And ".join(f"what is {one}?" for one in sums)


team_at_its_limit = more_ask(
    *2 * [(Caller("mail", seconds=0.5), cycle(questions.QUESTIONS[:1]))],
)
overload = more_ask(
    *PLACES * [(Caller("search", seconds=120.0), cycle([questions.NEVER]))],
)
cache_too_small = more_ask(
    *((Caller("search", MODELS), _long_questions(number)) for number in range(8))
)
members_come_and_go = more_ask((Caller("search", EXITING), cycle([questions.WAVERING])))


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


def _every(*names: str) -> tuple[Told, ...]:
    """The alerts of these names, of whatever severity."""
    return tuple(
        (alert.name, alert.severity)
        for name in names
        for alert in catalogue.ALERTS
        if alert.name == name
    )


@dataclass(frozen=True, slots=True)
class Case:
    """A trouble, the alerts that tell of it, and what it is known by on the boards."""

    name: str
    trouble: Trouble
    alerts: tuple[Told, ...]
    sign: Sign | None = None

    def __str__(self) -> str:
        return self.name


SHORT = (
    Case(
        "a member is dead",
        done_by(Killed("gamma-0")),
        _every("MemberDown", "EnsembleDegraded"),
        signs.DEAD,
    ),
    Case("a team at its limit", team_at_its_limit, _every("TeamAtLimit"), signs.LIMITED),
    Case("an autoscaler that does nothing", scaler_wants_nothing, _every("ScalerInert")),
)
LONG = (
    Case(
        "a member is slow",
        done_by(Slow("gamma-0")),
        _every("StragglerDominates", "RoundLatencyHigh", "FirstSegmentSlow"),
        signs.SLOW,
    ),
    Case(
        "two members hang",
        done_by(Hung("beta-0"), Hung("gamma-0")),
        _every("QuorumLost", "ErrorBudgetBurn"),
    ),
    Case("overload", overload, _every("OverloadRefusals"), signs.OVERLOADED),
    Case(
        "one member knows it all",
        all_ask({**ASKED, ALL: questions.QUESTIONS[:1]}),
        _every("WinShareCollapse"),
    ),
    Case("a word is enough", all_ask({ALL: (questions.BRIEF,)}), _every("WastedDraftsHigh")),
    Case("members come and go", members_come_and_go, _every("RecallStorm")),
    Case("a cache that is too small", cache_too_small, _every("KVCacheFull")),
    Case("a rollout that is stuck", done_by(AnotherRevision("alpha-1")), _every("MixedRevisions")),
    Case("a certificate ends", certificate_ends, _every("CertificateExpiresSoon")),
    Case("nobody asks", all_ask({}), (("NoTraffic", "warning"),)),
    Case("the fuser is dead", done_by(Killed("fuser-0")), (("NoTraffic", "critical"),)),
)
SIGNS = {case.name: case.sign for case in (*SHORT, *LONG) if case.sign}
