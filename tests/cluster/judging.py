"""Traffic during a scenario, judged: nothing is lost, and nothing is wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from tests.cluster.counted import Report, count, errors_of
from tests.cluster.mesh import EVERYBODY
from tests.robustness.checker import Problem, check_calls
from tests.robustness.history import History
from tests.robustness.traffic import traffic

_ANSWER_SECONDS: Final = 30.0
_BEFORE, _AFTER = 8, 8
"""So many questions at least are answered before anything is done, and asked after it."""

_LONGEST_SECONDS: Final = 240.0


@asynccontextmanager
async def under_load(
    scenario: str,
    addresses: Sequence[str],
    report: Report,
    *references: Mapping[str, str],
) -> AsyncIterator[History]:
    """Callers ask from before something is done, in the context, until after it.

    Each answer must be the one of a reference, whole, or own up to who was missing. What it came to
    goes into the report, however it ends.

    Raises:
        AssertionError: a question was lost, or an answer was wrong.
    """
    questions = tuple(references[0])
    async with (
        asyncio.timeout(_LONGEST_SECONDS),
        traffic(addresses, questions, seconds=_ANSWER_SECONDS, ensemble=EVERYBODY) as history,
    ):
        await history.until(lambda: len(history.ends) >= _BEFORE)
        yield history
        done = time.monotonic()
        await history.until(lambda: len(history.ends_of(asked_from=done)) >= _AFTER)
    problems = problems_of(history, references)
    report.rows.append(count(scenario, history, problems))
    assert problems == []
    assert errors_of(history) == []


def problems_of(history: History, references: Sequence[Mapping[str, str]]) -> list[Problem]:
    """What is wrong with the calls, where each may be answered as one of the references says."""
    found = [check_calls(history, reference) for reference in references]
    calls = set.intersection(*({problem.call for problem in one} for one in found))
    return [problem for problem in found[0] if problem.call in calls]
