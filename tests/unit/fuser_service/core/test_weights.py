"""The verifiers' weights: hedge by hand, and for any rewards."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuser_service.core.candidates import DistinctCandidate
from fuser_service.core.types import Candidate
from fuser_service.core.weights import Weights, learning_rate, rewards

A, B, C = (DistinctCandidate(Candidate(n, finished=False), (n,)) for n in "abc")


def test_learning_rate_by_hand() -> None:
    # 2 sqrt(1/4) / 1, and a fifth of it in round 5.
    assert learning_rate(2.0, members=4, number=1) == pytest.approx(1.0)
    assert learning_rate(2.0, members=4, number=5) == pytest.approx(0.2)


def test_rewards_by_hand() -> None:
    judgements = {"a": (0.5, 0.3, 0.2), "b": (0.2, 0.3, 0.5), "c": (0.4, 0.3, 0.3)}
    assert rewards((A, B, C), judgements) == {
        # b: 0.2 loses to 0.3 and 0.5; c: 0.4 beats 0.3 and 0.3. 2 of 4.
        "a": 0.5,
        # a: 0.3 loses to 0.5, beats 0.2; c: loses to 0.4, a draw with 0.3 is no win. 1 of 4.
        "b": 0.25,
        # a: 0.2 loses twice; b: 0.5 wins twice. 2 of 4.
        "c": 0.5,
    }


def test_members_with_the_same_candidate_are_rewarded_by_their_own_others() -> None:
    both = DistinctCandidate(Candidate("ab", finished=False), ("a", "b"))
    judgements = {"a": (0.9, 0.1), "b": (0.4, 0.6), "c": (0.7, 0.3)}
    assert rewards((both, C), judgements) == {
        "a": 0.5,  # b: 0.4 loses to 0.6; c: 0.7 wins
        "b": 1.0,  # a and c both prefer it
        "c": 0.5,  # a: loses; b: wins
    }


def test_of_two_models_the_shares_from_the_other_are_compared() -> None:
    # Both prefer their own, so counting wins would say 0 and 0. But b gives a 0.4, a gives b 0.2.
    assert rewards((A, B), {"a": (0.8, 0.2), "b": (0.4, 0.6)}) == {"a": 1.0, "b": 0.0}
    assert rewards((A, B), {"a": (0.8, 0.2), "b": (0.2, 0.8)}) == {"a": 0.0, "b": 0.0}


def test_without_another_verifier_there_is_nothing_to_win() -> None:
    assert rewards((A, B), {"a": (0.8, 0.2)}) == {"a": 0.0, "b": 0.0}


def test_hedge_by_hand() -> None:
    # w = (1/2, 1/2), rate ln 3, rewards (1, 0): (3/2, 1/2) / 2 = (3/4, 1/4).
    weights = Weights.uniform("ab").rewarded({"a": 1.0, "b": 0.0}, math.log(3))
    assert weights.among("ab") == pytest.approx({"a": 0.75, "b": 0.25})
    # Once more: (9, 1) / 10.
    again = weights.rewarded({"a": 1.0, "b": 0.0}, math.log(3))
    assert again.among("ab") == pytest.approx({"a": 0.9, "b": 0.1})


def test_who_sits_a_round_out_keeps_its_weight() -> None:
    weights = Weights.uniform("abc").rewarded({"a": 1.0, "b": 0.0}, math.log(3))
    # a and b share their 2/3 as 3 : 1; c keeps its 1/3.
    assert weights.among("abc") == pytest.approx({"a": 0.5, "b": 1 / 6, "c": 1 / 3})
    assert weights.rewarded({}, 1.0) == weights


@given(
    st.lists(st.dictionaries(st.sampled_from("abcd"), st.floats(0, 1)), max_size=20),
    st.floats(0, 1e4),
)
def test_weights_always_sum_to_one(history: list[dict[str, float]], rate: float) -> None:
    weights = Weights.uniform("abcd")
    for earned in history:
        weights = weights.rewarded(earned, rate)
    for members in ("abcd", "bd", "c"):
        assert math.fsum(weights.among(members).values()) == pytest.approx(1.0)
