"""Statistics of candidates."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_service.core.scores import NotAProbability, score_of

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
