"""A mesh of processes, each behind a link: members in replicas, and one or two fusers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from specfuse.client import AsyncClient
from specfuse.demo.experts import EXPERTS
from specfuse.demo.skills import generate_questions
from specfuse.errors import SpecFuseError
from tests.robustness import clock, questions
from tests.robustness.clock import Clock
from tests.robustness.nodes import PATIENCE_SECONDS, Node
from tests.support.repository import REPOSITORY

_DEMO_MESH = REPOSITORY / "specfuse" / "demo" / "mesh.yaml"


@dataclass(frozen=True, slots=True)
class Shape:
    """What a mesh is made of.

    `models` are the settings of each member, `replicas` how many it has if not one, `fuser` the
    settings of each fuser beside its members; `questions` are what its ensemble, `all`, can be
    asked, each to be answered within `seconds`, and `ensembles` are further ones, by name; at least
    `least` questions must come to their ends before a fault, and as many under it. The services in
    `clocked` have a clock of their own, where there is a C compiler to make one.
    """

    models: Mapping[str, Mapping[str, Any]]
    ensemble: Mapping[str, Any]
    questions: tuple[str, ...]
    ensembles: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    replicas: Mapping[str, int] = field(default_factory=dict)
    fusers: int = 2
    fuser: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 10.0
    least: int = 12
    clocked: tuple[str, ...] = ()


def scripted(*, replicas: Mapping[str, int] | None = None, fusers: int = 2, **fuser: Any) -> Shape:
    """Three scripted members; two replicas of the first, unless said otherwise."""
    return Shape(
        models={name: questions.script(name) for name in questions.MEMBERS},
        ensemble=questions.ensemble(),
        questions=questions.QUESTIONS,
        replicas={"alpha": 2} if replicas is None else replicas,
        fusers=fusers,
        fuser={"drain_seconds": 5.0} | fuser,
    )


def experts() -> Shape:
    """The five experts that are shipped, as `specfuse up --demo` runs them, and two fusers.

    One of the experts has two replicas.
    """
    models = yaml.safe_load(_DEMO_MESH.read_text())["models"]
    for expert in EXPERTS:
        models[expert.name]["torch"]["model"] = str(expert.path)
    asked = (generate_questions(seed=seed, count=1, parts=2) for seed in range(21, 25))
    return Shape(
        models=models,
        ensemble=questions.ensemble(models) | _OF_EXPERTS,
        questions=tuple(question.prompt for one in asked for question in one),
        replicas={"sums": 2},
        fuser={"drain_seconds": 10.0},
        seconds=60.0,
        least=8,
    )


_OF_EXPERTS = {
    "segment_tokens": 10,
    "quorum": 3,
    "straggler_grace_seconds": 10.0,
    "round_timeout_seconds": 30.0,
}
"""What is different where models compute: they take longer, and all of them the same cores."""

_NOTICES = (" is down", " is left alone for a while")
"""What fusers write of replicas to which they send no calls."""


class Mesh:
    """A running mesh. Its services are named `MEMBER-0`, `MEMBER-1`, ..., `fuser-0`, ..."""

    def __init__(self, shape: Shape, directory: Path) -> None:
        self.shape = shape
        self.nodes: dict[str, Node] = {}
        self.reference: dict[str, str] = {}
        self._directory = directory

    @property
    def fusers(self) -> list[Node]:
        """The fusers, in their order."""
        return [self.nodes[f"fuser-{number}"] for number in range(self.shape.fusers)]

    @property
    def addresses(self) -> list[str]:
        """Where fusers are asked."""
        return [fuser.address for fuser in self.fusers]

    def siblings(self, name: str) -> list[Node]:
        """The other services that do the same as this one."""
        kind = name.rpartition("-")[0]
        others = [one for one in self.nodes if one.rpartition("-")[0] == kind and one != name]
        return [self.nodes[one] for one in others]

    async def start(self) -> None:
        """Starts all services and learns what they answer when nothing is wrong."""
        models = self._make_models()
        await asyncio.gather(*(self._serve(node) for node in models))
        members = {
            name: {"endpoints": [node.address for node in models if _member_of(node) == name]}
            for name in self.shape.models
        }
        settings = self.shape.fuser | {
            "members": members,
            "ensembles": {"all": self.shape.ensemble, **self.shape.ensembles},
        }
        fusers = [self._make(f"fuser-{i}", "fuser", settings) for i in range(self.shape.fusers)]
        await asyncio.gather(*(self._serve(node) for node in fusers))
        await self.is_whole()
        self.reference = await self._answers()

    async def stop(self) -> None:
        """Ends all processes and links."""
        await asyncio.gather(*(node.end() for node in self.nodes.values()))
        await asyncio.gather(*(node.link.__aexit__() for node in self.nodes.values()))

    async def is_whole(self) -> None:
        """Returns when every fuser can reach every member."""
        await asyncio.gather(*(_reaches_all(fuser) for fuser in self.fusers))

    async def traces(self) -> dict[str, float]:
        """What shows of trouble so far, by where it shows.

        Calls to members that did not end well, replicas that fusers saw down or left alone,
        connections that callers made, and what links held up. A number that grows is trouble that
        hit somebody.
        """
        traces: dict[str, float] = {
            f"{name}'s link": node.link.held_up for name, node in self.nodes.items()
        }
        for fuser in self.fusers:
            traces[f"{fuser.name}'s calls"] = await _troubled_calls(fuser)
            traces[f"{fuser.name}'s notices"] = sum(map(fuser.log.count, _NOTICES))
            traces[f"{fuser.name}'s callers"] = fuser.link.accepted
        return traces

    def _make_models(self) -> list[Node]:
        return [
            self._make(f"{name}-{number}", "model", {"name": name} | settings)
            for name, settings in self.shape.models.items()
            for number in range(self.shape.replicas.get(name, 1))
        ]

    def _make(self, name: str, service: Any, settings: Mapping[str, Any]) -> Node:
        self.nodes[name] = Node(name, service, settings, self._directory, self._clock(name))
        return self.nodes[name]

    def _clock(self, name: str) -> Clock | None:
        if clock.COMPILER is None or name not in self.shape.clocked:
            return None
        return Clock(name, self._directory)

    async def _serve(self, node: Node) -> None:
        await node.link.accept()
        await node.start()

    async def _answers(self) -> dict[str, str]:
        """The answer to every question; all fusers must give the same."""
        answers: dict[str, str] = {}
        for fuser in self.fusers:
            async with AsyncClient(fuser.address) as client:
                for question in self.shape.questions:
                    answer = await client.generate(
                        question, ensemble="all", timeout=PATIENCE_SECONDS
                    )
                    assert not answer.degraded, answer.lost
                    assert answers.setdefault(question, answer.text) == answer.text
        return answers


@asynccontextmanager
async def running_mesh(shape: Shape, directory: Path) -> AsyncIterator[Mesh]:
    """A mesh of that shape, until the context is left."""
    async with AsyncExitStack() as stack:
        mesh = Mesh(shape, directory)
        stack.push_async_callback(mesh.stop)
        await mesh.start()
        yield mesh


def _member_of(node: Node) -> str:
    return node.name.rpartition("-")[0]


async def _reaches_all(fuser: Node) -> None:
    """Returns when the fuser can reach all members of its ensemble."""
    async with AsyncClient(fuser.direct_address) as client, asyncio.timeout(PATIENCE_SECONDS):
        while not await _is_complete(client):  # noqa: ASYNC110 (behind a socket)
            await asyncio.sleep(0.05)


async def _troubled_calls(fuser: Node) -> float:
    """Calls to members that this fuser saw end in anything but an answer."""
    calls = await fuser.metrics("specfuse_member_calls_total")
    return sum(count for labels, count in calls.items() if dict(labels)["outcome"] != "ok")


async def _is_complete(client: AsyncClient) -> bool:
    try:
        ensembles = await client.ensembles(timeout=PATIENCE_SECONDS)
    except SpecFuseError:
        return False
    return all(one.members == one.ready_members for one in ensembles)
