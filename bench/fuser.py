"""Measures what a round costs the fuser: `python bench/fuser.py`.

The processor time of a fuser's own process over each of its doors, for the same questions to the
same scripted members, in turns: gRPC's `Generate`, and a stream of `/v1/chat/completions`. Members
are processes of their own and take no time to think, so what is left is the fuser. They never
agree, which is the most that a round can take, or always, which is how most rounds are. Beside it,
in turns with it, what as many calls cost whoever makes nothing but calls: of the same members, by
`grpc.aio` alone in this process.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import grpc
import httpx2
import psutil
import typer
import yaml
from rich.table import Table

from bench.report import show
from specfuse.cli.up import MeshOptions, with_mesh
from specfuse.client import AsyncClient
from specfuse.localmesh import MeshAddresses
from specfuse.v1 import model_service_pb2 as pb
from specfuse.v1 import prompt_pb2
from specfuse.v1.model_service_pb2_grpc import ModelServiceStub

if TYPE_CHECKING:  # there are asynchronous stubs for the type checker only
    from specfuse.v1.model_service_pb2_grpc import ModelServiceAsyncStub

WORDS_A_SEGMENT = 4
QUESTION = "What is the answer?"
ENSEMBLE = "all"
Ask = Callable[[], Awaitable[None]]
"""Asks one question and reads all of the answer."""

Clock = Callable[[], float]
"""Seconds of processor time that somebody has taken so far."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What is asked: of how many members, for how many rounds of whole drafts, by which preset.

    Members that are `alike` write the same, others nothing that another writes.
    """

    members: int
    rounds: int
    preset: str = "default"
    alike: bool = False

    @property
    def words(self) -> int:
        """Words, and tokens, of an answer."""
        return WORDS_A_SEGMENT * self.rounds

    def answer_of(self, member: int) -> str:
        """What a member writes."""
        member = 0 if self.alike else member
        return " ".join(f"m{member}w{number}" for number in range(self.words))

    @property
    def bare_calls(self) -> int:
        """Calls that `bare` makes for an answer: two of each member a round."""
        return 2 * self.members * self.rounds

    def segments(self) -> list[str]:
        """The first member's answer as it is committed: equals decide in its favour."""
        words = self.answer_of(0).split(" ")
        starts = range(0, self.words, WORDS_A_SEGMENT)
        texts = [" ".join(words[start : start + WORDS_A_SEGMENT]) for start in starts]
        return [texts[0], *(f" {text}" for text in texts[1:])]


@dataclass(frozen=True, slots=True)
class Known:
    """An answer, which is always the same, and what it takes."""

    text: str
    rounds: int
    calls: int

    @classmethod
    async def of(cls, client: AsyncClient) -> Known:
        """What a first question shows."""
        answer = await client.generate(QUESTION, ensemble=ENSEMBLE)
        return cls(answer.text, answer.finished.rounds, answer.finished.calls_made)


@dataclass(frozen=True, slots=True)
class Subject:
    """Something that answers, in so many rounds, and the processor time that it takes."""

    ask: Ask
    clock: Clock
    rounds: float


@dataclass(slots=True)
class Costs:
    """Of each turn: milliseconds of processor time a round, and answers a second."""

    milliseconds: list[float] = field(default_factory=list)
    answers: list[float] = field(default_factory=list)


def mesh_of(shape: Shape) -> dict[str, Any]:
    """Scripted models that never agree, in an ensemble that nobody leaves."""
    models = {
        f"model{number}": {
            "backend": "scripted",
            "scripted": {
                "lines": [{"answer": shape.answer_of(number)}],
                "context_window": 4 * shape.words + 100,
            },
        }
        for number in range(shape.members)
    }
    ensemble = {
        "members": list(models),
        "segment_tokens": WORDS_A_SEGMENT,
        "preset": shape.preset,
        "exit": {"min_models": shape.members},
        "max_tokens": shape.words,
        "max_tokens_limit": shape.words,
        "request_timeout_seconds": 600,
    }
    limits = {"requests_in_flight": 256}
    return {"models": models, "fuser": {"ensembles": {ENSEMBLE: ensemble}, "limits": limits}}


def fuser_clock() -> Clock:
    """The processor time of the fuser, among the processes that were started from here."""
    children = psutil.Process().children()
    (fuser,) = (one for one in children if " fuser serve " in " ".join(one.cmdline()))

    def seconds() -> float:
        times = fuser.cpu_times()
        return float(times.user + times.system)

    return seconds


def over_grpc(client: AsyncClient, expected: str) -> Ask:
    """The question by the contract."""

    async def ask() -> None:
        answer = await client.generate(QUESTION, ensemble=ENSEMBLE)
        if answer.text != expected:
            raise ValueError("the answer over gRPC is another")

    return ask


def over_http(client: httpx2.AsyncClient, expected: str) -> Ask:
    """A streamed chat completion."""
    body = {
        "model": ENSEMBLE,
        "messages": [{"role": "user", "content": QUESTION}],
        "stream": True,
    }

    async def ask() -> None:
        text = ""
        async with client.stream("POST", "/v1/chat/completions", json=body) as response:
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    for choice in json.loads(line[6:])["choices"]:
                        text += choice["delta"].get("content") or ""
        if text != expected:
            raise ValueError("the answer over HTTP is another")

    return ask


def bare(stubs: Sequence[ModelServiceAsyncStub], shape: Shape) -> Ask:
    """Calls of the members, and nothing else: no votes, no limits, nobody to tell."""
    candidates = [
        pb.Candidate(text=" ".join(shape.answer_of(number).split(" ")[:WORDS_A_SEGMENT]))
        for number in range(shape.members)
    ]
    segments = shape.segments()
    turn = prompt_pb2.Message(role=prompt_pb2.ROLE_USER, content=QUESTION)

    def context(committed: int) -> pb.Context:
        return pb.Context(
            conversation=prompt_pb2.Conversation(messages=[turn]),
            committed_segments=segments[:committed],
            session_id="bare",
        )

    async def proposed(stub: ModelServiceAsyncStub, committed: int) -> str:
        request = pb.ProposeSegmentRequest(context=context(committed), max_tokens=WORDS_A_SEGMENT)
        return (await stub.ProposeSegment(request, timeout=60)).segment.text

    async def scored(stub: ModelServiceAsyncStub, committed: int) -> float:
        others = candidates[1:]
        request = pb.ScoreSegmentsRequest(context=context(committed), candidates=others)
        return (await stub.ScoreSegments(request, timeout=60)).scores[0].logprob_sum

    async def ask() -> None:
        for number in range(shape.rounds):
            await asyncio.gather(*(proposed(stub, number) for stub in stubs))
            await asyncio.gather(*(scored(stub, number) for stub in stubs))

    return ask


@asynccontextmanager
async def subjects(
    addresses: MeshAddresses, shape: Shape, callers: int
) -> AsyncIterator[tuple[dict[str, Subject], Known]]:
    """All that take turns, by name, and what they answer."""
    fuser = fuser_clock()
    async with AsyncExitStack() as stack:
        grpc_client = await stack.enter_async_context(AsyncClient(addresses.fuser.address))
        http_client = await stack.enter_async_context(
            httpx2.AsyncClient(
                base_url=f"http://{addresses.fuser.http_address}",
                limits=httpx2.Limits(max_connections=callers),
                timeout=600,
            )
        )
        stubs: list[ModelServiceAsyncStub] = []
        for model in addresses.models.values():
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(model.address))
            stubs.append(ModelServiceStub(channel))
        known = await Known.of(grpc_client)
        as_many_calls = shape.bare_calls / (known.calls / known.rounds)
        by_name = {
            "bare": Subject(bare(stubs, shape), time.process_time, as_many_calls),
            "gRPC": Subject(over_grpc(grpc_client, known.text), fuser, known.rounds),
            "HTTP": Subject(over_http(http_client, known.text), fuser, known.rounds),
        }
        yield by_name, known


async def turn(subject: Subject, callers: int, questions: int, costs: Costs) -> None:
    """Has every caller ask so many questions, one after the other."""

    async def caller() -> None:
        for _ in range(questions):
            await subject.ask()

    before, began = subject.clock(), time.monotonic()
    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
    answers = callers * questions
    costs.milliseconds.append(1000 * (subject.clock() - before) / (answers * subject.rounds))
    costs.answers.append(answers / (time.monotonic() - began))


async def measured(
    addresses: MeshAddresses, shape: Shape, callers: int, questions: int, repeats: int
) -> tuple[Known, dict[str, Costs]]:
    """What is answered, and the costs of a round by subject; the subjects take turns."""
    async with subjects(addresses, shape, callers) as (by_name, known):
        costs = {name: Costs() for name in by_name}
        for subject in by_name.values():
            await subject.ask()
        for _ in range(repeats):
            for name, subject in by_name.items():
                await turn(subject, callers, questions, costs[name])
    return known, costs


def ratio(of: Costs, to: Costs) -> float:
    """The median of the ratios within each turn."""
    pairs = zip(of.milliseconds, to.milliseconds, strict=True)
    return median(one / other for one, other in pairs)


def table_of(costs: dict[tuple[Shape, int], tuple[Known, dict[str, Costs]]]) -> Table:
    """Medians, and the medians of the ratios within each turn."""
    table = Table(
        "preset",
        "members",
        "agree",
        "callers",
        "rounds",
        "calls a round",
        "bare calls, ms",
        "gRPC, ms",
        "HTTP, ms",
        "bare / gRPC",
        "HTTP / gRPC",
        "answers a second",
        title="processor time a round",
    )
    for (shape, callers), (known, by_name) in costs.items():
        milliseconds = [f"{median(one.milliseconds):.2f}" for one in by_name.values()]
        table.add_row(
            shape.preset,
            str(shape.members),
            "always" if shape.alike else "never",
            str(callers),
            str(known.rounds),
            f"{known.calls / known.rounds:.1f}",
            *milliseconds,
            f"{ratio(by_name['bare'], by_name['gRPC']):.2f}",
            f"{ratio(by_name['HTTP'], by_name['gRPC']):.2f}",
            f"{median(by_name['gRPC'].answers):.1f}",
        )
    return table


def main(
    members: Annotated[list[int] | None, typer.Option(help="Scripted members. [5]")] = None,
    callers: Annotated[list[int] | None, typer.Option(help="At a time. [1, 16]")] = None,
    presets: Annotated[list[str] | None, typer.Option(help="Of the ensemble. [default]")] = None,
    rounds: Annotated[
        int, typer.Option(min=1, max=4096, help="Of an answer, if whole drafts are committed.")
    ] = 50,
    questions: Annotated[int, typer.Option(min=1, help="Of each caller, a turn.")] = 2,
    repeats: Annotated[int, typer.Option(min=1, help="Turns of each.")] = 5,
) -> None:
    """Measure what a round costs the fuser over each of its doors, beside the bare calls."""
    costs: dict[tuple[Shape, int], tuple[Known, dict[str, Costs]]] = {}
    for preset, size, alike in product(presets or ("default",), members or (5,), (False, True)):
        shape = Shape(size, rounds, preset, alike)

        async def work(addresses: MeshAddresses, shape: Shape = shape) -> None:
            for number in callers or (1, 16):
                costs[shape, number] = await measured(addresses, shape, number, questions, repeats)

        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory) / "mesh.yaml"
            file.write_text(yaml.safe_dump(mesh_of(shape)), encoding="utf-8")
            with_mesh(MeshOptions(file), work)
    show(table_of(costs))


if __name__ == "__main__":
    typer.run(main)
