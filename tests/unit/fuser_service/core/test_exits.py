"""Who leaves early: by hand, and the guards for any standing."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuser_service.core.exits import (
    EntropySoftmax,
    NoExit,
    Standing,
    confidence,
    exit_policy,
    falters,
    recalls,
    softmax_temperature,
)
from fuser_service.core.rules import ExitKind, ExitRules
from tests.support.members import score


def leaving(quality: dict[str, float], winners: str = "", **settings: float) -> tuple[str, ...]:
    rules = {"tau0": 1.0, "alpha": 0.5, "min_rounds": 1, "min_models": 1, **settings}
    rounds = int(rules.pop("rounds", 1))
    return EntropySoftmax(**rules).leaving(Standing(quality, rounds, winners))  # type: ignore[arg-type]


def test_temperature_by_hand() -> None:
    # Evenly spread: H = ln 2 / ln 2 = 1. All in one: H = 0. Nothing yet counts as even.
    assert softmax_temperature([2.0, 2.0], tau0=0.3) == pytest.approx(0.3)
    assert softmax_temperature([2.0, 0.0], tau0=0.3) == 0.0
    assert softmax_temperature([0.0, 0.0], tau0=0.3) == 0.3
    # (1/2, 1/4, 1/4): entropy = 1/2 ln 2 + 2 * 1/4 ln 4 = 1.5 ln 2, over ln 3.
    expected = 0.1 * 1.5 * math.log(2) / math.log(3)
    assert softmax_temperature([2.0, 1.0, 1.0], tau0=0.1) == pytest.approx(expected)


def test_exit_by_hand() -> None:
    # Q = (0.75, 0.25): H = (0.75 ln 4/3 + 0.25 ln 4) / ln 2 = 0.8113.
    # p_b = 1 / (1 + exp(0.5 / (tau0 H))). tau0 = 1: 1 / (1 + e^0.616) = 0.351 >= 0.5 / 2: stays.
    assert leaving({"a": 0.75, "b": 0.25}, "a") == ()
    # tau0 = 0.5: 1 / (1 + e^1.233) = 0.226 < 0.25: leaves.
    assert leaving({"a": 0.75, "b": 0.25}, "a", tau0=0.5) == ("b",)


def test_all_quality_in_one_member_sends_the_others_away() -> None:
    assert leaving({"a": 0.0, "b": 2.0, "c": 0.0}, "b") == ("a", "c")


def test_equals_stay_together() -> None:
    assert leaving({"a": 1.0, "b": 1.0, "c": 1.0}, "a", tau0=0.01) == ()
    assert leaving({"a": 0.0, "b": 0.0}, "a", tau0=0.01) == ()


def test_the_winners_never_leave() -> None:
    standing = {"a": 9.0, "b": 0.2, "c": 0.1}
    assert leaving(standing, "a", tau0=0.1) == ("b", "c")
    assert leaving(standing, "c", tau0=0.1) == ("b",)
    assert leaving(standing, "bc", tau0=0.1) == ()


def test_nobody_leaves_before_min_rounds() -> None:
    standing = {"a": 9.0, "b": 0.1}
    assert leaving(standing, "a", tau0=0.1, min_rounds=3, rounds=2) == ()
    assert leaving(standing, "a", tau0=0.1, min_rounds=3, rounds=3) == ("b",)


def test_the_best_stay_up_to_min_models() -> None:
    standing = {"a": 0.1, "b": 9.0, "c": 0.3, "d": 0.3}
    assert leaving(standing, "b", tau0=0.1, min_models=2) == ("a", "d")  # c is earlier than d
    assert leaving(standing, "b", tau0=0.1, min_models=4) == ()


def test_without_exit_nobody_leaves() -> None:
    assert isinstance(exit_policy(ExitRules(kind=ExitKind.NONE)), NoExit)
    assert NoExit().leaving(Standing({"a": 9.0, "b": 0.0}, 9, "a")) == ()


standings = st.dictionaries(
    st.sampled_from("abcdef"), st.one_of(st.just(0.0), st.floats(0, 50)), min_size=1
)


@given(
    standings,
    st.data(),
    st.floats(0, 2),
    st.floats(0, 9),
    st.integers(-1, 4),
)
def test_the_guards_always_hold(
    quality: dict[str, float], data: st.DataObject, tau0: float, alpha: float, min_models: int
) -> None:
    winners = data.draw(st.sets(st.sampled_from(sorted(quality))))
    gone = leaving(quality, winners, tau0=tau0, alpha=alpha, min_models=min_models)  # type: ignore[arg-type]
    assert not winners & set(gone)
    assert len(gone) < len(quality)
    assert not gone or len(quality) - len(gone) >= min_models
    assert list(gone) == [member for member in quality if member in gone]


# Recall


def test_confidence_is_the_best_geometric_statistic() -> None:
    # 0.5 over three tokens beats 0.4 over one: exp(mean log p) does not depend on length.
    assert confidence([score(0.5, tokens=3), score(0.4)]) == pytest.approx(0.5)
    assert confidence([]) is None


def test_faltering_by_hand() -> None:
    # The mean of 0.8 and 0.6 is 0.7; 0.9 of it is 0.63.
    assert falters(0.62, [0.8, 0.6], 0.9)
    assert not falters(0.64, [0.8, 0.6], 0.9)
    assert not falters(0.5, [1.0], 0.5)  # has to fall below
    assert not falters(None, [0.8], 0.9)
    assert not falters(0.01, [], 0.9)


def test_recall_needs_an_exit_policy() -> None:
    assert recalls(ExitRules())
    assert not recalls(ExitRules(recall=False))
    assert not recalls(ExitRules(kind=ExitKind.NONE))
