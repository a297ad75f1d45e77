"""Which replica serves a session: the same for everybody, for as long as it can."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from fuser_service.mesh.balancing import LOAD_BOUND, Pins, choose, ranked

ENDPOINTS = tuple(f"replica-{number}:50051" for number in range(8))

endpoints = st.lists(st.sampled_from(ENDPOINTS), min_size=1, unique=True)
sessions = st.text(max_size=20)


@given(sessions, endpoints, st.randoms())
def test_the_ranking_depends_on_the_session_and_the_set_of_endpoints_alone(
    session: str, some: list[str], random: object
) -> None:
    shuffled = sorted(some, key=lambda _: random.random())  # type: ignore[attr-defined]
    assert ranked(session, some) == ranked(session, shuffled)
    assert sorted(ranked(session, some)) == sorted(some)


@given(sessions, endpoints, st.sampled_from(ENDPOINTS))
def test_when_an_endpoint_goes_only_its_own_sessions_move(
    session: str, some: list[str], gone: str
) -> None:
    left = [endpoint for endpoint in some if endpoint != gone]
    if left and ranked(session, some)[0] != gone:
        assert ranked(session, left)[0] == ranked(session, some)[0]


def test_sessions_spread_over_the_endpoints() -> None:
    chosen = Counter(ranked(f"session {number}", ENDPOINTS)[0] for number in range(4000))
    assert len(chosen) == len(ENDPOINTS)
    assert max(chosen.values()) < 1.25 * 4000 / len(ENDPOINTS)


@given(endpoints, st.lists(st.integers(0, 50), min_size=8, max_size=8))
def test_no_endpoint_is_chosen_beyond_the_bound_and_somebody_always_is(
    preferred: list[str], in_flight: list[int]
) -> None:
    loads = dict(zip(ENDPOINTS, in_flight, strict=True))
    chosen = choose(preferred, loads)
    mean = (sum(loads[endpoint] for endpoint in preferred) + 1) / len(preferred)
    assert loads[chosen] + 1 < LOAD_BOUND * mean + 1


def test_an_idle_mesh_follows_the_ranking() -> None:
    preferred = ranked("s", ENDPOINTS)
    assert choose(preferred, {}) == preferred[0]


class TestPins:
    def test_load_does_not_move_a_session_in_mid_answer(self) -> None:
        pins = Pins()
        first = pins.pick("s", ENDPOINTS, {})
        assert pins.pick("s", ENDPOINTS, {first: 100}) == first

    def test_load_moves_a_session_that_begins(self) -> None:
        preferred = ranked("s", ENDPOINTS)
        assert Pins().pick("s", ENDPOINTS, {preferred[0]: 100}) == preferred[1]

    def test_a_session_whose_endpoint_went_stays_with_the_next(self) -> None:
        pins = Pins()
        first = pins.pick("s", ENDPOINTS, {})
        others = [endpoint for endpoint in ENDPOINTS if endpoint != first]
        second = pins.pick("s", others, {})
        assert second == ranked("s", ENDPOINTS)[1]
        assert pins.pick("s", ENDPOINTS, {}) == second

    def test_the_session_unseen_for_longest_is_forgotten(self) -> None:
        pins = Pins(kept=2)
        busy = {ranked("old", ENDPOINTS)[0]: 100}
        moved = pins.pick("old", ENDPOINTS, busy)
        pins.pick("other", ENDPOINTS, {})
        assert pins.pick("old", ENDPOINTS, {}) == moved
        pins.pick("third", ENDPOINTS, {})
        assert pins.pick("old", ENDPOINTS, {}) == moved
        pins.pick("other", ENDPOINTS, {})
        pins.pick("third", ENDPOINTS, {})
        assert pins.pick("old", ENDPOINTS, {}) == ranked("old", ENDPOINTS)[0]
