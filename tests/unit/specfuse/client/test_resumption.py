"""When an interrupted answer is gone on with."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specfuse.client.resumption import (
    ATTEMPTS,
    FIRST_PAUSE_SECONDS,
    SWITCH_SECONDS,
    Retries,
)
from specfuse.errors import (
    Overloaded,
    QuorumLost,
    RevisionLost,
    ShuttingDown,
    SpecFuseError,
    Unavailable,
    all_errors,
)

GONE = Unavailable("gone")
MAY_PASS = {Unavailable, ShuttingDown, QuorumLost, RevisionLost}
ADDRESSES = st.integers(1, 5)


def of(kind: type[SpecFuseError]) -> SpecFuseError:
    """An error of this class, whatever its constructor wants."""
    error = kind.__new__(kind)
    SpecFuseError.__init__(error, "wrong")
    return error


@pytest.mark.parametrize("kind", list(all_errors()), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("advanced", [False, True])
@pytest.mark.parametrize("admitted", [False, True])
def test_only_what_may_pass_is_tried_again(
    kind: type[SpecFuseError], admitted: bool, advanced: bool
) -> None:
    retries = Retries().after(of(kind), admitted=admitted, advanced=advanced)
    assert (retries is not None) is (kind in MAY_PASS or (kind is Overloaded and not admitted))


@given(ADDRESSES, st.lists(st.booleans(), max_size=80))
def test_it_ends_after_so_many_attempts_in_vain_in_a_row(
    addresses: int, advances: list[bool]
) -> None:
    retries: Retries | None = Retries(addresses)
    in_vain = 0
    for advanced in advances:
        in_vain = 0 if advanced else in_vain + 1
        retries = retries.after(GONE, admitted=advanced, advanced=advanced)
        assert (retries is None) is (in_vain == ATTEMPTS * addresses)
        if retries is None:
            break


@given(ADDRESSES, st.floats(0, 1))
def test_pauses_are_short_to_another_address_and_double_every_time_all_failed(
    addresses: int, draw: float
) -> None:
    for in_vain in range(ATTEMPTS * addresses):
        times_round, others = divmod(in_vain, addresses)
        waited = times_round > 0 and not others
        longest = FIRST_PAUSE_SECONDS * 2 ** (times_round - 1) if waited else SWITCH_SECONDS
        assert longest / 2 <= Retries(addresses, in_vain).pause(draw) <= longest


def test_what_was_interrupted_after_progress_goes_on_almost_at_once() -> None:
    retries = Retries(1, ATTEMPTS - 1).after(GONE, admitted=True, advanced=True)
    assert retries is not None
    assert retries.pause(1) == SWITCH_SECONDS
