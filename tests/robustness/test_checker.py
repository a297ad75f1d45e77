"""The checker on histories made by hand: what is good passes, and every rule is seen to fail."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from tests.robustness.checker import Demands, Rule, check, check_calls
from tests.robustness.history import Answered, End, Failed, History

QUESTION = "?"
RIGHT = "so it is"
DEMANDS = Demands({QUESTION: RIGHT}, faulted_at=100.0, least=2)

GOOD = Answered(0, 1.0, RIGHT, ("so it", " is"))
RESUMED = replace(GOOD, resumed=1)
DEGRADED = replace(GOOD, text="so", segments=("so",), degraded=True, lost=("alpha",))
SHORT = replace(DEGRADED, lost=(), missed=("beta",), absent=frozenset({"beta"}))
ERROR = Failed(0, 1.0, "Unavailable", ("so it",), ("so it",))
NOTHING_STANDS = Failed(0, 1.0, "Overloaded")


def history_of(*ends: End, before: int = 2) -> History:
    """Some good answers before the fault, and these ends to questions asked under it.

    Each has the number of its place; its time is how long it took.
    """
    history = History()
    for began, end in itertools.chain(
        ((10.0 + i, GOOD) for i in range(before)), ((110.0 + i, end) for i, end in enumerate(ends))
    ):
        asked = history.ask(QUESTION, began, timeout=10.0)
        history.end(replace(end, call=asked.call, at=began + end.at))
    return history


def broken(history: History, demands: Demands = DEMANDS) -> set[Rule]:
    return {problem.rule for problem in check(history, demands)}


@pytest.mark.parametrize("end", [RESUMED, SHORT, DEGRADED, replace(GOOD, at=9.0)])
def test_a_run_with_an_effect_and_no_harm_is_good(end):
    assert check(history_of(GOOD, end), DEMANDS) == []


@pytest.mark.parametrize("end", [ERROR, NOTHING_STANDS])
def test_a_documented_error_is_good_where_one_may_come(end):
    assert broken(history_of(GOOD, end)) == {Rule.FEW_FAIL}
    assert broken(history_of(GOOD, end), replace(DEMANDS, most_failed=1)) == set()


@pytest.mark.parametrize(
    ("end", "rule"),
    [
        (replace(GOOD, text="so", segments=("so",)), Rule.RIGHT),
        (replace(RESUMED, text="so", segments=("so",)), Rule.RIGHT),
        (replace(GOOD, text="so it is it is", segments=("so it", " is", " it is")), Rule.RIGHT),
        (replace(DEGRADED, lost=()), Rule.NAMED),
        (replace(DEGRADED, text=RIGHT, segments=("so it is",), degraded=False), Rule.NAMED),
        (replace(SHORT, missed=(), lost=("alpha",)), Rule.NAMED),
        (replace(GOOD, segments=("so it",)), Rule.WHOLE_TEXT),
        (replace(GOOD, at=11.5), Rule.IN_TIME),
        (replace(ERROR, at=11.5), Rule.IN_TIME),
        (replace(ERROR, error="Internal"), Rule.DOCUMENTED),
        (replace(ERROR, error="Cancelled"), Rule.DOCUMENTED),
        (replace(ERROR, resume=None), Rule.RESUMABLE),
        (replace(ERROR, resume=("so",)), Rule.RESUMABLE),
        (replace(NOTHING_STANDS, resume=("so it",)), Rule.RESUMABLE),
    ],
)
def test_a_bad_end_is_found(end, rule):
    history = history_of(RESUMED, end)
    assert broken(history, replace(DEMANDS, most_failed=1)) == {rule}
    found = [problem for problem in check(history, DEMANDS) if problem.rule is rule]
    assert [problem.call for problem in found] == [3]


def test_a_bad_end_is_found_where_there_is_no_fault_too():
    history = history_of(replace(GOOD, text="so", segments=("so",)))
    assert [problem.rule for problem in check_calls(history, DEMANDS.reference)] == [Rule.RIGHT]


def test_a_question_without_an_end_is_found():
    history = history_of(RESUMED, GOOD)
    history.ask(QUESTION, 120.0, 10.0)
    assert broken(history) == {Rule.ONE_END}


def test_a_second_end_is_found():
    history = history_of(RESUMED, GOOD)
    history.end(history.ends[-1])
    assert broken(history) == {Rule.ONE_END}


@pytest.mark.parametrize(
    "history", [history_of(RESUMED), history_of(RESUMED, GOOD, before=1), history_of(before=5)]
)
def test_too_little_traffic_is_found(history):
    assert Rule.TRAFFIC in broken(history)


def test_a_fault_that_nobody_noticed_is_found():
    history = history_of(GOOD, GOOD)
    assert broken(history) == {Rule.EFFECT}
    assert broken(history, replace(DEMANDS, noticed=True)) == set()
