"""How long a query waits for its members, for any history of their waking and falling asleep."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fuser_service.fusion.vigil import Vigil

SECONDS = st.floats(0, 100, allow_nan=False)


def test_who_is_waited_for_and_how_long() -> None:
    vigil = Vigil(members=3, quorum=2, until=100.0, grace_seconds=10.0)
    assert not vigil.over(0, 0.0)
    assert not vigil.over(1, 30.0)
    assert vigil.ends == 100.0
    assert not vigil.over(2, 40.0)
    assert vigil.ends == 50.0, "the third has the grace"
    assert not vigil.over(2, 45.0)
    assert vigil.ends == 50.0
    assert not vigil.over(1, 46.0)
    assert vigil.ends == 100.0, "one fell asleep again"
    assert not vigil.over(2, 47.0)
    assert not vigil.over(2, 56.9)
    assert vigil.over(2, 57.0)


def test_once_all_are_awake_nobody_waits() -> None:
    assert Vigil(members=3, quorum=1, until=100.0, grace_seconds=10.0).over(3, 0.0)
    assert not Vigil(members=3, quorum=1, until=100.0, grace_seconds=10.0).over(2, 0.0)
    assert Vigil(members=3, quorum=1, until=100.0, grace_seconds=0.0).over(1, 0.0)


@given(
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 5)).map(sorted),
    until=SECONDS,
    grace=SECONDS,
    history=st.lists(st.tuples(SECONDS, st.integers(0, 5)), min_size=1, max_size=12),
)
def test_it_ends_in_time_and_never_before_its_reason(
    sizes: list[int], until: float, grace: float, history: list[tuple[float, int]]
) -> None:
    quorum, members = sizes
    vigil = Vigil(members, quorum, until, grace)
    quorum_since: float | None = None
    for now, many in sorted(history):
        awake = min(many, members)
        if awake < quorum:
            quorum_since = None
        elif quorum_since is None:
            quorum_since = now
        over = vigil.over(awake, now)
        graced = quorum_since is not None and now >= quorum_since + grace
        assert over == (awake == members or now >= until or graced)
        assert vigil.ends <= until
        if over:
            return
