"""How long an API server is left alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fuser_service.mesh.discovery.kubernetes.trouble import Pauses


@given(st.integers(0, 30))
def test_pauses_double_up_to_the_longest_and_vary_by_half(before: int) -> None:
    pauses = Pauses(0.5, 30.0)
    for _ in range(before):
        pauses.next()
    full = min(0.5 * 2**before, 30.0)
    assert full / 2 <= pauses.next() <= full


def test_after_a_good_time_they_are_short_again() -> None:
    pauses = Pauses(0.5, 30.0)
    for _ in range(10):
        pauses.next()
    pauses.over()
    assert pauses.next() <= 0.5


@given(st.floats(0, 1e9))
def test_what_the_server_wants_is_kept_within_the_longest(wanted: float) -> None:
    assert min(wanted, 30.0) <= Pauses(0.5, 30.0).next(wanted) <= 30.0
