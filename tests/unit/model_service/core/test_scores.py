"""Statistics of candidates."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_service.core.scores import NotAProbability, evidence_of, most_regretted, score_of
from model_service.core.types import Disagreement, Evidence

logprobs = st.lists(st.floats(max_value=0.0, min_value=-100.0), min_size=1, max_size=20)


def test_by_hand() -> None:
    score = score_of([math.log(0.5), math.log(0.25)], " né")
    assert score.logprob_sum == pytest.approx(math.log(0.125))
    assert score.probability_mean == pytest.approx(0.375)
    assert (score.token_count, score.byte_count) == (2, 4)
    assert score.token_logprobs == (math.log(0.5), math.log(0.25))


def test_an_empty_finished_candidate_is_its_end_token() -> None:
    score = score_of([math.log(0.5)], "")
    assert (score.token_count, score.byte_count) == (1, 0)


@given(logprobs)
def test_ranges(row: list[float]) -> None:
    score = score_of(row, "x")
    assert score.logprob_sum <= 0.0
    assert 0.0 <= score.probability_mean <= 1.0
    geometric = math.exp(score.logprob_sum / score.token_count)
    assert geometric <= score.probability_mean + 1e-12


def test_impossible_tokens_have_probability_0() -> None:
    score = score_of([0.0, -math.inf], "x")
    assert score.logprob_sum == -math.inf
    assert score.probability_mean == 0.5


def test_rounding_above_certainty_is_certainty() -> None:
    assert score_of([1e-6], "x").logprob_sum == 0.0


@pytest.mark.parametrize("row", [[math.nan], [0.1], [-1.0, math.inf]])
def test_what_is_no_probability(row: list[float]) -> None:
    with pytest.raises(NotAProbability):
        score_of(row, "x")


def test_no_tokens() -> None:
    with pytest.raises(ValueError, match="no tokens"):
        score_of([], "x")


def test_evidence_by_hand() -> None:
    evidence = evidence_of([-1.0, -3.0, -2.5], [-1.0, -0.5, -0.5], [0, 4, 9], entropy=1.5)
    assert evidence == Evidence(
        regret_sum=4.5,
        regret_max=2.5,
        regret_offset=4,
        entropy=1.5,
        weakest_logprob=-3.0,
        weakest_offset=4,
        further=(Disagreement(offset=9, regret=2.0, best_logprob=-0.5),),
        untold=0.0,
    )


def test_the_next_largest_regrets_are_told_and_how_large_the_others_are() -> None:
    row = [-1.0, -6.0, -2.0, -4.0, -5.0, -3.0]
    evidence = evidence_of(row, [-1.0] * 6, range(6))
    assert [(place.offset, place.regret) for place in evidence.further] == [
        (4, 4.0),
        (3, 3.0),
        (5, 2.0),
    ]
    assert evidence.untold == 1.0


def test_of_equals_the_first_is_named() -> None:
    evidence = evidence_of([-2.0, -2.0], [-1.0, -1.0], [0, 3])
    assert (evidence.regret_offset, evidence.weakest_offset) == (0, 0)
    assert evidence.entropy is None


@given(st.lists(st.tuples(*[st.floats(max_value=0.0, min_value=-100.0)] * 2), min_size=1))
def test_regrets_are_never_negative_and_the_largest_is_one_of_them(
    tokens: list[tuple[float, float]],
) -> None:
    row, best = zip(*tokens, strict=True)
    evidence = evidence_of(row, best, range(len(row)))
    assert 0.0 <= evidence.regret_max <= evidence.regret_sum
    assert evidence.regret_offset == most_regretted(row, best)
    own, most = tokens[evidence.regret_offset]
    assert evidence.regret_max == max(0.0, most - own)
    assert row[evidence.weakest_offset] == evidence.weakest_logprob == min(row)


def test_impossible_tokens_are_regretted_without_end() -> None:
    evidence = evidence_of([-1.0, -math.inf], [-1.0, -0.5], [0, 1])
    assert evidence.regret_max == math.inf
    assert evidence.regret_offset == evidence.weakest_offset == 1


@pytest.mark.parametrize(
    ("row", "best", "entropy"),
    [
        ([math.nan], [-1.0], None),
        ([-1.0], [math.nan], None),
        ([-1.0], [0.1], None),
        ([-1.0], [-1.0], math.nan),
        ([-1.0], [-1.0], -0.1),
    ],
)
def test_evidence_of_what_is_no_probability(
    row: list[float], best: list[float], entropy: float | None
) -> None:
    with pytest.raises(NotAProbability):
        evidence_of(row, best, [0], entropy)
