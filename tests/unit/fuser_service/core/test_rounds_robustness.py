"""What members that are no help do to an ensemble of experts, over real rounds."""

from __future__ import annotations

import pytest

from fuser_service.core.rules import ExitKind, ExitRules, Vote
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
SEGMENTS = [
    pytest.param({"vote": Vote.SEGMENTS, "exit": ExitRules(kind=ExitKind.NONE)}, id="no exit"),
    pytest.param(
        {"vote": Vote.SEGMENTS, "exit": ExitRules(kind=ExitKind.ENTROPY_SOFTMAX)},
        id="exit and recall",
    ),
]
WORDS = [
    pytest.param({"vote": Vote.WORDS, "exit": ExitRules(kind=ExitKind.NONE)}, id="words"),
    pytest.param({"vote": Vote.WORDS, "exit": ExitRules(kind=ExitKind.WATCH)}, id="watching"),
]
OF_SEGMENTS = pytest.mark.parametrize("rules", SEGMENTS)
OF_EITHER_VOTE = pytest.mark.parametrize("rules", [*SEGMENTS, *WORDS])
ONE_POINT = 0.01

Settings = dict[str, object]
"""What is voted on, and who leaves."""


def winners(results: list[Outcome]) -> set[str]:
    return {winner for result in results for winner in result.winners}


@OF_EITHER_VOTE
async def test_experts_together_answer_what_none_could(rules: Settings) -> None:
    results = await outcomes(experts(QUESTIONS), QUESTIONS, **rules)
    assert exact_share(results) == 1.0


@OF_EITHER_VOTE
async def test_noise_costs_nothing(rules: Settings) -> None:
    ensemble = {"noise": Noise(None, QUESTIONS), **experts(QUESTIONS)}
    results = await outcomes(ensemble, QUESTIONS, **rules)
    assert exact_share(results) >= 1.0 - ONE_POINT


@OF_SEGMENTS
async def test_noise_writes_no_segment(rules: Settings) -> None:
    ensemble = {"noise": Noise(None, QUESTIONS), **experts(QUESTIONS)}
    assert "noise" not in winners(await outcomes(ensemble, QUESTIONS, **rules))


async def test_noise_that_watches_writes_nothing() -> None:
    ensemble = {"noise": Noise(None, QUESTIONS), **experts(QUESTIONS)}
    results = await outcomes(ensemble, QUESTIONS, vote=Vote.WORDS, exit=ExitRules(ExitKind.WATCH))
    assert "noise" not in winners(results)


async def test_noise_is_the_first_to_leave() -> None:
    ensemble = {"noise": Noise(None, QUESTIONS), **experts(QUESTIONS)}
    leaving = ExitRules(kind=ExitKind.ENTROPY_SOFTMAX)
    for result in await outcomes(ensemble, QUESTIONS, vote=Vote.SEGMENTS, exit=leaving):
        first = next(left for left in result.left if left)
        assert "noise" in {departure.member for departure in first}


@OF_SEGMENTS
async def test_a_member_sure_of_the_same_wrong_answer_never_wins(rules: Settings) -> None:
    ensemble = {"parrot": Parrot(QUESTIONS), **experts(QUESTIONS)}
    results = await outcomes(ensemble, QUESTIONS, **rules)
    assert exact_share(results) >= 1.0 - ONE_POINT
    assert "parrot" not in winners(results)


@pytest.mark.parametrize("rules", WORDS)
async def test_a_member_sure_of_the_same_wrong_answer_wins_no_word_of_its_own(
    rules: Settings,
) -> None:
    """Its sentence begins as some answers do: that word it may share with those who wrote it."""
    ensemble = {**experts(QUESTIONS), "parrot": Parrot(QUESTIONS)}
    results = await outcomes(ensemble, QUESTIONS, **rules)
    assert exact_share(results) >= 1.0 - ONE_POINT
    assert "parrot" not in winners(results)


@pytest.mark.parametrize("rules", [SEGMENTS[0], *WORDS])
async def test_a_liar_loses_where_two_know_better(rules: Settings) -> None:
    """Where a single member knows, nothing tells the others which of the two sure ones lies.

    Nor does exit help against liars: one that is left alone is sure, and calls nobody back.
    """
    twice = {f"{name}-{copy}": one for name, one in experts(QUESTIONS).items() for copy in "ab"}
    results = await outcomes({**twice, "liar": Liar(None, QUESTIONS)}, QUESTIONS, **rules)
    assert exact_share(results) >= 1.0 - ONE_POINT


@OF_EITHER_VOTE
async def test_vocabularies_of_very_different_size(rules: Settings) -> None:
    ensemble = experts(QUESTIONS, (whole_words, long_words_in_two))
    results = await outcomes(ensemble, QUESTIONS, **rules)
    assert exact_share(results) >= 1.0 - ONE_POINT
