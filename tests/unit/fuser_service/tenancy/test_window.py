"""Amounts in the last minute, at times that the test makes up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fuser_service.tenancy.window import WINDOW_SECONDS, Window

PAUSES = st.lists(st.floats(0, 90, allow_nan=False), max_size=60)


def admitted(pauses: list[float], limit: int) -> list[float]:
    """When requests were let in that came after these pauses."""
    window, now, times = Window(), 100.0, []
    for pause in pauses:
        now += pause
        if not window.wait(now, limit):
            window.add(now, 1)
            times.append(now)
    return times


@given(PAUSES, st.integers(1, 8))
def test_no_minute_has_more_than_the_limit(pauses: list[float], limit: int) -> None:
    times = admitted(pauses, limit)
    for begin in times:
        assert sum(0 <= at - begin < WINDOW_SECONDS for at in times) <= limit


@given(PAUSES, st.integers(1, 8))
def test_nobody_is_refused_while_there_is_room(pauses: list[float], limit: int) -> None:
    times = admitted(pauses, limit)
    now = 100.0
    for pause in pauses:
        now += pause
        if now not in times:
            since = [at for at in times if 0 <= now - at < WINDOW_SECONDS]
            assert len(since) == limit


@given(PAUSES, st.integers(1, 8), st.floats(0, 60))
def test_who_waits_as_long_as_told_is_let_in_and_not_before(
    pauses: list[float], limit: int, later: float
) -> None:
    window, now = Window(), 100.0
    for pause in pauses:
        now += pause
        window.add(now, 1)
    now += later
    seconds = window.wait(now, limit)
    assert 0 <= seconds <= WINDOW_SECONDS
    if seconds > 1e-6:
        assert window.wait(now + seconds / 2, limit) > 0
    assert window.wait(now + seconds + 1e-6, limit) == 0


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(0, 50)), max_size=40), st.integers(1, 60))
def test_what_is_known_only_afterwards_delays_what_comes_next(
    answers: list[tuple[float, int]], limit: int
) -> None:
    """Every answer but the last one of a minute was begun while there was room."""
    window, now, counted = Window(), 100.0, []
    for pause, tokens in answers:
        now += pause
        if not window.wait(now, limit):
            window.add(now, tokens)
            counted.append((now, tokens))
    for begin, _ in counted:
        minute = [tokens for at, tokens in counted if 0 <= at - begin < WINDOW_SECONDS]
        assert sum(minute[:-1]) < limit


def test_a_window_keeps_nothing_that_does_not_count() -> None:
    window = Window()
    window.add(0.0, 3)
    window.add(59.0, 2)
    assert window.total(59.9) == 5
    assert window.total(60.0) == 2
    assert window.total(119.0) == 0
