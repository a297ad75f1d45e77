"""Load that does not wait for answers."""

from __future__ import annotations

import asyncio
import math
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.open_loop import Outcome, due_times, offered, percentile


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.1, 100))
def test_a_percentile_is_the_least_that_so_many_do_not_exceed(
    values: list[float], percent: float
) -> None:
    found = percentile(values, percent)
    share = percent / 100 * len(values)
    assert found in values
    assert sum(value <= found for value in values) >= share - 1e-6
    assert sum(value < found for value in values) < share + 1e-6


def test_percentiles() -> None:
    hundred = [float(number) for number in range(100, 0, -1)]
    assert percentile(hundred, 50) == 50
    assert percentile(hundred, 99) == 99
    assert percentile([7.0], 1) == 7
    assert math.isnan(percentile([], 50))


def test_questions_are_due_at_the_rate_and_in_order() -> None:
    times = due_times(50.0, 100.0, seed=3)
    assert 4500 < len(times) < 5500
    assert all(one < other for one, other in pairwise([0.0, *times, 100.0]))
    gaps = sorted(other - one for one, other in pairwise(times))
    assert gaps[len(gaps) // 2] == pytest.approx(math.log(2) / 50, rel=0.1)  # exponential
    assert times == due_times(50.0, 100.0, seed=3)
    assert times != due_times(50.0, 100.0, seed=4)


async def test_nobody_waits_for_the_answers_before() -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def ask(number: int) -> float:
        first = time.monotonic()
        if number == 0:
            await go_on.wait()
        else:
            asked.set()
        return first

    loading = asyncio.create_task(offered(ask, [0.0, 0.001]))
    await asked.wait()  # the second was asked, and the first has no answer
    assert not loading.done()
    go_on.set()
    slow, quick = await loading
    assert slow.answer_seconds >= slow.first_seconds >= 0
    assert slow.end >= quick.end


async def test_what_fails_is_counted_and_the_others_go_on() -> None:
    async def ask(number: int) -> float:
        if number == 1:
            raise ValueError("no")
        return time.monotonic()

    outcomes = await offered(ask, [0.0, 0.0, 0.0])
    assert [one.error for one in outcomes] == ["", "ValueError", ""]


def test_waiting_counts_from_when_a_question_was_due() -> None:
    outcome = Outcome(due=1.0, first=1.5, end=4.0)
    assert (outcome.first_seconds, outcome.answer_seconds) == (0.5, 3.0)
