"""Thousands of questions, many of them given up on the way: nothing may stay behind."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from specfuse.client import Answer, AsyncClient, Event
from tests.robustness import questions
from tests.robustness.measured import Report
from tests.robustness.mesh import Mesh, Shape, running_mesh, scripted
from tests.robustness.nodes import PATIENCE_SECONDS
from tests.robustness.process import Held, lets_go

AT_THE_SAME_TIME = 8
SHORT_SOAK, LONG_SOAK = 300, 10_000
MEMORY_BYTES = 48 * 2**20
"""More than this must not stay with a service, however many questions there were."""


@pytest.mark.parametrize(
    "count",
    [
        SHORT_SOAK,
        pytest.param(LONG_SOAK, marks=[pytest.mark.robustness, pytest.mark.timeout(900)]),
    ],
)
async def test_questions_that_are_given_up_leave_nothing_behind(
    tmp_path: Path, report: Report, count: int
) -> None:
    async with running_mesh(quick(), tmp_path) as mesh:
        await ask_and_give_up(mesh, 50, seed=0)
        before = {name: Held.by(node.pid) for name, node in mesh.nodes.items()}
        await ask_and_give_up(mesh, count, seed=1)
        for name, node in mesh.nodes.items():
            kept = (await lets_go(node.pid, before[name])).memory_bytes - before[name].memory_bytes
            assert kept < MEMORY_BYTES
            report.numbers[f"soak of {count}: memory kept by {name}, MiB"] = kept / 2**20
            assert "Traceback" not in node.log
        in_flight = await mesh.fusers[0].metrics("specfuse_requests_in_flight")
        assert set(in_flight.values()) == {0.0}


def quick() -> Shape:
    """Three members that take no time, and one fuser; few rounds make an answer.

    Nobody is late in them because the machine is busy.
    """
    shape = scripted(replicas={}, fusers=1)
    models = {name: questions.script(name, seconds=0.0) for name in shape.models}
    return replace(shape, models=models, ensemble=shape.ensemble | _FEW_PATIENT_ROUNDS)


_FEW_PATIENT_ROUNDS = {
    "segment_tokens": 20,
    "straggler_grace_seconds": PATIENCE_SECONDS,
    "round_timeout_seconds": PATIENCE_SECONDS,
}


async def ask_and_give_up(mesh: Mesh, count: int, seed: int) -> None:
    """Asks so many questions, of which some callers want only the beginning of the answer."""
    draw = random.Random(seed)
    left = iter(range(count))

    async def keep_asking(client: AsyncClient) -> None:
        for _ in left:
            question = draw.choice(mesh.shape.questions)
            await draw.choice((whole, beginning, interrupted))(client, question, mesh, draw)

    async with AsyncClient(mesh.addresses) as client, asyncio.TaskGroup() as group:
        for _ in range(AT_THE_SAME_TIME):
            group.create_task(keep_asking(client))


async def whole(client: AsyncClient, question: str, mesh: Mesh, _draw: random.Random) -> None:
    """Waits for the answer."""
    answer = await client.generate(question, timeout=PATIENCE_SECONDS)
    assert not answer.degraded
    assert answer.text == mesh.reference[question]


async def beginning(client: AsyncClient, question: str, mesh: Mesh, draw: random.Random) -> None:
    """Leaves after some events."""
    wanted = draw.randint(1, 4)
    events: list[Event] = []
    async with aclosing(client.stream(question, timeout=PATIENCE_SECONDS)) as stream:
        async for event in stream:
            events.append(event)
            if len(events) == wanted:
                return
    assert Answer.of(events).text == mesh.reference[question]


async def interrupted(client: AsyncClient, question: str, _mesh: Mesh, draw: random.Random) -> None:
    """Is cancelled at some moment, if the answer is not there by then."""
    asking = asyncio.ensure_future(client.generate(question, timeout=PATIENCE_SECONDS))
    await asyncio.wait({asking}, timeout=draw.uniform(0, 0.1))
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
