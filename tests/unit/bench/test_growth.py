"""What is kept up with, and what gave out first."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.growth import KEPT_UP, PATIENCE, Load, fusers_capacity, knee, members_capacity

UNLOADED = 1.0
EASY = Load(
    offered=10.0,
    answered=10.0,
    failed=0,
    first_p50=0.2,
    first_p99=0.3,
    answer_p50=1.0,
    answer_p99=1.2,
    fuser_busy=0.3,
    machine_busy=0.4,
    others_busy=0.0,
    callers_busy=0.1,
    member_wait=0.0,
    again=0.0,
)


def test_what_is_kept_up_with() -> None:
    assert EASY.kept_up(UNLOADED)
    assert replace(EASY, answered=KEPT_UP * 10.0).kept_up(UNLOADED)
    assert replace(EASY, answer_p99=PATIENCE * UNLOADED).kept_up(UNLOADED)


@pytest.mark.parametrize(
    "load",
    [
        replace(EASY, answered=8.9),
        replace(EASY, answer_p99=2.1),
        replace(EASY, failed=1),
        replace(EASY, answer_p99=float("nan")),
    ],
)
def test_what_is_not(load: Load) -> None:
    assert not load.kept_up(UNLOADED)


def test_what_is_exhausted() -> None:
    assert EASY.exhausted() == ()
    assert replace(EASY, fuser_busy=0.95).exhausted() == ("fusers",)
    assert replace(EASY, member_wait=0.5).exhausted() == ("members",)
    both = replace(EASY, machine_busy=1.0, callers_busy=0.9)
    assert both.exhausted() == ("this machine", "the callers")


def test_the_knee_is_before_the_first_load_that_is_lost() -> None:
    lost = replace(EASY, offered=30.0, answered=20.0, fuser_busy=1.0)
    loads = [EASY, replace(EASY, offered=20.0, answered=20.0), lost, replace(EASY, offered=40.0)]
    found = knee(loads, UNLOADED)
    assert (found.most, found.first_lost, found.because) == (20.0, 30.0, ("fusers",))


def test_no_knee() -> None:
    assert knee([EASY], UNLOADED).first_lost is None
    assert knee([EASY], UNLOADED).most == EASY.offered
    none = knee([replace(EASY, failed=1)], UNLOADED)
    assert (none.most, none.first_lost) == (0.0, EASY.offered)
    assert knee([], UNLOADED).most == 0.0


@given(st.integers(1, 64), st.integers(1, 256), st.floats(0.01, 100))
def test_capacity_grows_with_what_there_is(count: int, places: int, seconds: float) -> None:
    one = members_capacity(1, places, seconds)
    assert members_capacity(count, places, seconds) == pytest.approx(count * one)
    assert fusers_capacity(count, 1.0, seconds) == pytest.approx(count / seconds)


def test_a_fuser_uses_one_core_at_most() -> None:
    assert fusers_capacity(2, 4.0, 0.01) == fusers_capacity(2, 1.0, 0.01) == pytest.approx(200)
    assert fusers_capacity(2, 0.5, 0.01) == pytest.approx(100)
