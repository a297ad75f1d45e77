"""Traffic during a scenario, judged: nothing is lost, and nothing is wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from tests.cluster.api import PATIENCE_SECONDS
from tests.cluster.counted import Report, count, errors_of
from tests.cluster.mesh import EVERYBODY, Mesh
from tests.robustness.checker import Problem, check_calls
from tests.robustness.history import Answered, History
from tests.robustness.traffic import traffic

_ANSWER_SECONDS: Final = 120.0
_BEFORE, _AFTER = 8, 8
"""So many questions at least are answered before anything is done, and asked after it."""


@asynccontextmanager
async def under_load(
    scenario: str,
    mesh: Mesh,
    report: Report,
    *others: Mapping[str, str],
    addresses: Sequence[str] = (),
) -> AsyncIterator[History]:
    """Callers ask from before something is done, in the context, until after it.

    They ask the fuser's Service, or at these addresses. Each answer must be the one of the mesh, or
    of what `others` have in its place, or own up to who was missing. What it came to goes into the
    report, however it ends.

    Raises:
        AssertionError: a question was lost, or an answer was wrong.
    """
    asking = traffic(
        addresses or await mesh.addresses(),
        tuple(mesh.reference),
        seconds=_ANSWER_SECONDS,
        ensemble=EVERYBODY,
        open_client=mesh.open_client,
    )
    async with asyncio.timeout(2 * PATIENCE_SECONDS), asking as history:
        await history.until(lambda: len(history.ends) >= _BEFORE)
        yield history
        done = time.monotonic()
        await history.until(lambda: len(history.ends_of(asked_from=done)) >= _AFTER)
    problems = problems_of(history, (mesh.reference, *others))
    report.rows.append(count(scenario, history, problems))
    assert problems == []
    assert errors_of(history) == []


def problems_of(history: History, references: Sequence[Mapping[str, str]]) -> list[Problem]:
    """What is wrong with the calls, where each may be answered as one of the references says.

    An answer that was interrupted and gone on with may be of several: for whoever goes on with it,
    committed text is text.
    """
    found = [check_calls(history, reference) for reference in references]
    calls = set.intersection(*({problem.call for problem in one} for one in found))
    resumed = {
        end.call
        for end in history.ends
        if isinstance(end, Answered) and end.resumed and _is_of_all(history, end, references)
    }
    return [problem for problem in found[0] if problem.call in calls - resumed]


def _is_of_all(history: History, end: Answered, references: Sequence[Mapping[str, str]]) -> bool:
    """Whether each word is the one that a reference has in its place."""
    question = history.asked[end.call].question
    told = [reference[question].split() for reference in references]
    words = end.text.split()
    return len(words) == len(told[0]) and all(
        word in known for word, known in zip(words, zip(*told, strict=True), strict=True)
    )
