"""The circuit breaker, by a clock that the test moves."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from fuser_service.mesh.breaker import Breaker, BreakerRules

RULES = BreakerRules(failures=3, open_seconds=1.0, longest_open_seconds=4.0)


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(RULES, clock)


def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        assert breaker.allows
        breaker.started()
        breaker.failed()


def test_it_opens_after_failures_in_a_row(breaker: Breaker) -> None:
    fail(breaker, 3)
    assert not breaker.allows


def test_a_success_in_between_starts_the_count_anew(breaker: Breaker) -> None:
    fail(breaker, 2)
    breaker.started()
    breaker.succeeded()
    fail(breaker, 2)
    assert breaker.allows


def test_abandoned_calls_say_nothing(breaker: Breaker) -> None:
    fail(breaker, 2)
    for _ in range(5):
        breaker.started()
        breaker.abandoned()
    assert breaker.allows
    fail(breaker)
    assert not breaker.allows


def test_after_its_time_one_call_is_let_through(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 0.9
    assert not breaker.allows
    clock.now += 0.2
    assert breaker.allows
    breaker.started()
    assert not breaker.allows
    breaker.succeeded()
    assert breaker.allows


def test_an_abandoned_trial_lets_the_next_one_through(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 1
    breaker.started()
    breaker.abandoned()
    assert breaker.allows


def test_every_failed_trial_doubles_the_time_up_to_a_limit(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    for seconds in (1, 2, 4, 4, 4):
        clock.now += seconds - 0.01
        assert not breaker.allows
        clock.now += 0.01
        fail(breaker)
    for _ in range(3000):  # an endpoint that is gone for a day
        clock.now += 4
        fail(breaker)


def test_a_success_closes_it_for_good(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, 3)
    clock.now += 1
    fail(breaker)
    clock.now += 2
    breaker.started()
    breaker.succeeded()
    fail(breaker, 2)
    assert breaker.allows
    fail(breaker)
    clock.now += 1
    assert breaker.allows


def test_calls_that_were_under_way_when_it_opened_do_not_extend_it(
    breaker: Breaker, clock: Clock
) -> None:
    for _ in range(5):
        breaker.started()
    for _ in range(5):
        breaker.failed()
    clock.now += 1
    assert breaker.allows


def outpace(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        assert breaker.allows
        breaker.started()
        breaker.late()
        breaker.abandoned()


def test_it_opens_for_lateness_as_for_failures_and_says_so(breaker: Breaker) -> None:
    outpace(breaker, 2)
    assert breaker.allows
    assert not breaker.outpaced
    outpace(breaker)
    assert not breaker.allows
    assert breaker.outpaced


def test_a_late_trial_keeps_it_open_twice_as_long(breaker: Breaker, clock: Clock) -> None:
    outpace(breaker, 3)
    clock.now += 1.0
    outpace(breaker)
    clock.now += 1.9
    assert not breaker.allows
    clock.now += 0.1
    assert breaker.allows


def test_what_failed_is_not_merely_late(breaker: Breaker, clock: Clock) -> None:
    outpace(breaker, 3)
    clock.now += 1.0
    fail(breaker)
    assert not breaker.allows
    assert not breaker.outpaced
    clock.now += 2.0
    breaker.started()
    breaker.succeeded()
    outpace(breaker, 2)
    assert breaker.allows


def test_lateness_that_is_told_after_it_opened_for_failures_changes_nothing(
    breaker: Breaker,
) -> None:
    fail(breaker, 3)
    breaker.late()
    assert not breaker.outpaced
