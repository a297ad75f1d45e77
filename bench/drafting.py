"""Measures what drafting ahead, and drafting longer, save and waste: `python bench/drafting.py`.

The same questions to the same members by ensembles that differ in `draft_ahead` or in `stretch`
alone, one after the other and in turns. Scripted members take a time for each call and one for each
token, as models on devices of their own do; the shipped experts share the cores of this machine, so
they show what is to be expected where members take each other's time.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Final

import typer
import yaml
from rich.table import Table

from bench.ratios import median_ratio
from bench.report import show
from bench.services import told
from specfuse.cli.up import DEMO_MESH, MeshOptions, with_mesh
from specfuse.client import AsyncClient, Finished, Segment
from specfuse.demo.skills import generate_questions
from specfuse.localmesh import MeshAddresses

ENSEMBLES: Final[Mapping[str, Mapping[str, Any]]] = {
    "off": {},
    "ahead": {"draft_ahead": True},
    "longer": {"stretch": 4},
}
"""By name, what sets them apart."""
MEMBERS, WORDS, SEGMENT_TOKENS = 5, 80, 10
TOKEN_SECONDS = 0.02
SCRIPTED_QUESTION = "What is the answer?"


@dataclass(frozen=True, slots=True)
class Subject:
    """A mesh to ask: its document, where its paths start, and the questions."""

    name: str
    document: Mapping[str, Any]
    questions: Sequence[str]
    directory: Path | None = None


@dataclass(slots=True)
class Measured:
    """Of each question, in order: seconds to the first segment and to the end, and its cost."""

    first: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)
    passes: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Result:
    """What a mesh did by ensemble, and how many drafts ahead were used and dropped."""

    subject: Subject
    by_ensemble: Mapping[str, Measured]
    used: float
    dropped: float


def scripted(call_seconds: float, objections_every: int, questions: int) -> Subject:
    """Members of one mind, but for one that every so many segments is of another, and wrong."""
    words = [f"w{number}" for number in range(WORDS)]
    odd = list(words)
    if objections_every:
        for start in range(SEGMENT_TOKENS // 2, WORDS, objections_every * SEGMENT_TOKENS):
            odd[start] = f"x{start}"
    sure = {"own_probability": 0.99, "other_probability": 0.01}
    takes = {"seconds": call_seconds, "token_seconds": TOKEN_SECONDS}

    def member(text: Sequence[str]) -> dict[str, Any]:
        line = {"answer": " ".join(text), **sure, **takes}
        return {"backend": "scripted", "scripted": {"lines": [line]}}

    models = {f"model{number}": member(words) for number in range(MEMBERS - 1)}
    models |= {"odd": member(odd)}
    often = f"objection every {objections_every} segments" if objections_every else "no objections"
    name = f"scripted, {1000 * call_seconds:.0f} ms a call, {often}"
    return Subject(name, mesh_of(models), [SCRIPTED_QUESTION] * questions)


def experts(questions: int) -> Subject:
    """The shipped experts, asked questions of two parts."""
    shipped = yaml.safe_load(DEMO_MESH.read_text(encoding="utf-8"))["models"]
    asked = [question.prompt for question in generate_questions(seed=5, count=questions, parts=2)]
    return Subject("the shipped experts", mesh_of(shipped), asked, DEMO_MESH.parent)


def mesh_of(models: Mapping[str, Any]) -> dict[str, Any]:
    """A mesh of these models, with all ensembles."""
    ensembles = {
        name: {"members": [*models], "segment_tokens": SEGMENT_TOKENS, **settings}
        for name, settings in ENSEMBLES.items()
    }
    return {"models": dict(models), "fuser": {"ensembles": ensembles}}


async def asked(client: AsyncClient, question: str, ensemble: str, into: Measured) -> None:
    """Asks once, and notes what it took."""
    began, first = time.monotonic(), None
    text = ""
    async for event in client.stream(question, ensemble=ensemble):
        if isinstance(event, Segment):
            first = first or time.monotonic() - began
            text += event.text
        elif isinstance(event, Finished):
            into.rounds.append(event.rounds)
            into.calls.append(event.calls_made)
            into.passes.append(event.passes)
            text += event.text
    into.first.append(first or 0.0)
    into.whole.append(time.monotonic() - began)
    into.texts.append(text)


def measured(subject: Subject) -> Result:
    """Asks a mesh of the subject's, each ensemble being first in turns."""

    async def work(addresses: MeshAddresses) -> Result:
        names = [*ENSEMBLES]
        by_ensemble = {name: Measured() for name in names}
        async with AsyncClient(addresses.fuser.address) as client:
            for name in names:
                await asked(client, subject.questions[0], name, Measured())
            before = await _ahead(addresses)
            for question in subject.questions:
                for name in names:
                    await asked(client, question, name, by_ensemble[name])
                names.append(names.pop(0))
            after = await _ahead(addresses)
        if by_ensemble["off"].texts != by_ensemble["ahead"].texts:
            raise ValueError("drafting ahead changed an answer")
        used, dropped = (b - a for a, b in zip(before, after, strict=True))
        return Result(subject, by_ensemble, used, dropped)

    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "mesh.yaml"
        file.write_text(yaml.safe_dump(dict(subject.document)), encoding="utf-8")
        return with_mesh(MeshOptions(file, directory=subject.directory), work)


async def _ahead(addresses: MeshAddresses) -> tuple[float, float]:
    """How many drafts ahead were used so far, and how many dropped."""
    used, dropped = [
        await told(addresses.fuser, "specfuse_drafts_ahead_total", ensemble="ahead", outcome=one)
        for one in ("used", "dropped")
    ]
    return used, dropped


def ahead_table(results: Sequence[Result]) -> Table:
    """Of drafting ahead: medians, and the medians of the ratios within each question."""
    table = Table("mesh", title="Drafting ahead")
    headers = ("an answer without, s", "ahead, s", "ahead / without", "first segment", "passes")
    for header in (*headers, "used", "dropped"):
        table.add_column(header, justify="right")
    for result in results:
        off, ahead = result.by_ensemble["off"], result.by_ensemble["ahead"]
        count = len(result.subject.questions)
        table.add_row(
            result.subject.name,
            f"{median(off.whole):.2f}",
            f"{median(ahead.whole):.2f}",
            f"{median_ratio(ahead.whole, off.whole):.2f}",
            f"{median_ratio(ahead.first, off.first):.2f}",
            f"{median_ratio(ahead.passes, off.passes):.2f}",
            f"{result.used / count:.1f}",
            f"{result.dropped / count:.1f}",
        )
    table.caption = (
        "First segment and passes are ratios, too; used and dropped are drafts an answer. Of drafts"
        " that were cancelled before they were made, passes are not known, and not counted."
    )
    return table


def longer_table(results: Sequence[Result]) -> Table:
    """Of drafting longer: medians, and the median of the ratios within each question."""
    table = Table("mesh", title="Drafting longer: stretch 1, and 4")
    for header in ("an answer, s", "4 / 1", "rounds", "calls", "passes", "first segment, s"):
        table.add_column(header, justify="right")
    for result in results:
        off, longer = result.by_ensemble["off"], result.by_ensemble["longer"]
        table.add_row(
            result.subject.name,
            f"{median(off.whole):.2f}, {median(longer.whole):.2f}",
            f"{median_ratio(longer.whole, off.whole):.2f}",
            f"{median(off.rounds):.0f}, {median(longer.rounds):.0f}",
            f"{median(off.calls):.0f}, {median(longer.calls):.0f}",
            f"{median(off.passes):.0f}, {median(longer.passes):.0f}",
            f"{median(off.first):.2f}, {median(longer.first):.2f}",
        )
    return table


def main(
    questions: Annotated[int, typer.Option(min=1, help="Of each mesh and ensemble.")] = 20,
) -> None:
    """Measure what drafting ahead, and drafting longer, save and waste."""
    makers: tuple[Callable[[int], Subject], ...] = (
        lambda count: scripted(0.02, 0, count),
        lambda count: scripted(0.02, 3, count),
        lambda count: scripted(0.1, 0, count),
        lambda count: scripted(0.1, 3, count),
        experts,
    )
    results = [measured(make(questions)) for make in makers]
    show(ahead_table(results), longer_table(results))


if __name__ == "__main__":
    typer.run(main)
