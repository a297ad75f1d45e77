"""Releases that change, go back, and go."""

from __future__ import annotations

import pytest

from tests.cluster.counted import Report
from tests.cluster.judging import under_load
from tests.cluster.mesh import Mesh, values

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(900),
]

SECOND = "-II"


async def test_no_answer_is_of_two_editions_while_one_takes_the_place_of_the_other(
    mesh: Mesh, report: Report
) -> None:
    first = mesh.reference
    second = {question: edited(answer) for question, answer in first.items()}
    async with under_load("upgraded to other models", mesh, report, second):
        await mesh.release.upgrade(values(SECOND))
        await mesh.is_whole()
    assert await mesh.answers() == second
    async with under_load("rolled back", mesh, report, second):
        await mesh.release.rollback()
        await mesh.is_whole()
    assert await mesh.answers() == first


def edited(answer: str) -> str:
    """What the second edition says in the place of an answer."""
    return " ".join(f"{word}{SECOND}" for word in answer.split())
