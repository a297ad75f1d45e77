"""What members that are no help do to an ensemble of experts, over real rounds."""

from __future__ import annotations

import pytest

from fuser_service.core.rules import ExitKind, ExitRules
from specfuse.demo.skills import generate_questions
from tests.support.simulated_experts import (
    Liar,
    Noise,
    Outcome,
    Parrot,
    asked,
    exact_share,
    experts,
    long_words_in_two,
    outcomes,
    whole_words,
)

QUESTIONS = asked(
    question for parts in range(1, 6) for question in generate_questions(3, 12, parts=parts)
)
POLICIES = pytest.mark.parametrize(
    "exit_rules",
    [ExitRules(kind=ExitKind.NONE), ExitRules()],
    ids=["no exit", "exit and recall"],
)
ONE_POINT = 0.01


def winners(results: list[Outcome]) -> set[str]:
    return {winner for result in results for winner in result.winners}


@POLICIES
async def test_experts_together_answer_what_none_could(exit_rules: ExitRules) -> None:
    results = await outcomes(experts(QUESTIONS), QUESTIONS, exit=exit_rules)
    assert exact_share(results) == 1.0


@POLICIES
async def test_noise_costs_nothing(exit_rules: ExitRules) -> None:
    ensemble = {"noise": Noise(None, QUESTIONS), **experts(QUESTIONS)}
    results = await outcomes(ensemble, QUESTIONS, exit=exit_rules)
    assert exact_share(results) >= 1.0 - ONE_POINT
    assert "noise" not in winners(results)


async def test_noise_is_the_first_to_leave() -> None:
    ensemble = {"noise": Noise(None, QUESTIONS), **experts(QUESTIONS)}
    for result in await outcomes(ensemble, QUESTIONS):
        first = next(left for left in result.left if left)
        assert "noise" in {departure.member for departure in first}


@POLICIES
async def test_a_member_sure_of_the_same_wrong_answer_never_wins(exit_rules: ExitRules) -> None:
    ensemble = {"parrot": Parrot(QUESTIONS), **experts(QUESTIONS)}
    results = await outcomes(ensemble, QUESTIONS, exit=exit_rules)
    assert exact_share(results) >= 1.0 - ONE_POINT
    assert "parrot" not in winners(results)


async def test_a_liar_loses_where_two_know_better() -> None:
    """Where a single member knows, nothing tells the others which of the two sure ones lies.

    Nor does exit help against liars: one that is left alone is sure, and calls nobody back.
    """
    stay = ExitRules(kind=ExitKind.NONE)
    twice = {f"{name}-{copy}": one for name, one in experts(QUESTIONS).items() for copy in "ab"}
    results = await outcomes({**twice, "liar": Liar(None, QUESTIONS)}, QUESTIONS, exit=stay)
    assert exact_share(results) >= 1.0 - ONE_POINT


@POLICIES
async def test_vocabularies_of_very_different_size(exit_rules: ExitRules) -> None:
    ensemble = experts(QUESTIONS, (whole_words, long_words_in_two))
    results = await outcomes(ensemble, QUESTIONS, exit=exit_rules)
    assert exact_share(results) >= 1.0 - ONE_POINT
