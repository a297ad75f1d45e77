"""When a call is late."""

from __future__ import annotations

import pytest

from fuser_service.mesh.pace import COLD_SECONDS, FEWEST, KEPT, SHORTEST_SECONDS, Pace


def pace_of(*seconds: float) -> Pace:
    pace = Pace()
    for one in seconds:
        pace.took(one)
    return pace


def test_without_enough_calls_it_is_a_guess() -> None:
    assert pace_of(*[0.2] * (FEWEST - 1)).late_seconds == COLD_SECONDS


def test_it_is_a_multiple_of_what_nearly_all_calls_take() -> None:
    assert pace_of(*[0.2] * 96, *[9.0] * 4).late_seconds == pytest.approx(0.4)
    assert pace_of(*[0.2] * 90, *[9.0] * 10).late_seconds == pytest.approx(18.0)


def test_fast_calls_are_not_late_at_once() -> None:
    assert pace_of(*[0.001] * 50).late_seconds == SHORTEST_SECONDS


def test_it_follows_a_change_of_load() -> None:
    assert pace_of(*[0.2] * KEPT, *[2.0] * KEPT).late_seconds == pytest.approx(4.0)
