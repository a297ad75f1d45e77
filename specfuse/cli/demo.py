"""The shipped experts, alone and fused: `specfuse demo`."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from specfuse.cli.complaints import INTERRUPTED
from specfuse.cli.demo_view import Outcome, coloured, is_exact, question_block, summary_table
from specfuse.cli.mesh_run import Interrupted
from specfuse.cli.report import Json, answer_report
from specfuse.cli.trace import summary
from specfuse.cli.up import DEMO_MESH, MeshOptions, with_mesh
from specfuse.client import Answer, AsyncClient
from specfuse.demo.experts import EXPERTS
from specfuse.demo.skills import MAX_PARTS, Question, generate_questions
from specfuse.localmesh import MeshAddresses

FUSED = "experts"
"""The demo's ensemble of all experts."""

QUESTIONS: tuple[Question, ...] = tuple(
    generate_questions(seed=parts, count=1, parts=parts)[0] for parts in range(1, MAX_PARTS + 1)
)
"""What the demo asks: a question of every number of parts, as they are drawn."""

_NAMES = tuple(expert.name for expert in EXPERTS)


def run_question(question: str, *, as_json: bool, log_dir: Path | None) -> int:
    """Asks the fused experts one question. Returns the exit code."""

    async def ask(addresses: MeshAddresses) -> Answer:
        async with AsyncClient(addresses.fuser.address) as client:
            return await client.generate(question, ensemble=FUSED)

    try:
        answer = with_mesh(MeshOptions(DEMO_MESH, log_dir=log_dir), ask)
    except Interrupted:
        return INTERRUPTED
    if as_json:
        _print_json(answer_report(answer))
    else:
        _console().print(coloured(answer), Text(), summary(answer.finished), sep="\n")
    return 0


def run_demo(*, as_json: bool, log_dir: Path | None) -> int:
    """Asks the demo's questions. Returns the exit code: 0 if every fused answer is exact."""
    console = _console()

    async def ask_all(addresses: MeshAddresses) -> list[Outcome]:
        outcomes = []
        async with AsyncClient(addresses.fuser.address) as client:
            for question in QUESTIONS:
                outcomes.append(await _ask(client, question))
                if not as_json:
                    console.print(question_block(outcomes[-1]))
        return outcomes

    try:
        outcomes = with_mesh(MeshOptions(DEMO_MESH, log_dir=log_dir), ask_all)
    except Interrupted:
        return INTERRUPTED
    if as_json:
        _print_json({"questions": [_outcome_report(outcome) for outcome in outcomes]})
    else:
        console.print(summary_table(outcomes))
    return 0 if all(outcome.right for outcome in outcomes) else 1


async def _ask(client: AsyncClient, question: Question) -> Outcome:
    """Asks the experts on their own, then together."""
    alone = await asyncio.gather(
        *(client.generate(question.prompt, ensemble=name) for name in _NAMES)
    )
    fused = await client.generate(question.prompt, ensemble=FUSED)
    return Outcome(question, dict(zip(_NAMES, alone, strict=True)), fused)


def _outcome_report(outcome: Outcome) -> Json:
    """A question, its right answer, what every expert answered alone, and the fused answer."""
    question = outcome.question
    return {
        "question": question.prompt,
        "right_answer": question.answer,
        "alone": {
            name: {"text": answer.text, "exact": is_exact(question, answer)}
            for name, answer in outcome.alone.items()
        },
        "fused": answer_report(outcome.fused) | {"exact": is_exact(question, outcome.fused)},
    }


def _print_json(document: Json) -> None:
    json.dump(document, sys.stdout, ensure_ascii=False)
    sys.stdout.write("\n")


def _console() -> Console:
    return Console(highlight=False)
