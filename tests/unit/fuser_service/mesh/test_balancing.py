"""Which replica serves a session: the same for everybody, for as long as it can."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from fuser_service.mesh.balancing import LOAD_BOUND, Load, Pins, choose, ranked

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


def busy(endpoint: str) -> dict[str, Load]:
    """The loads of all endpoints, of which one has a hundred calls in flight."""
    return {one: Load(100 * (one == endpoint)) for one in ENDPOINTS}


IDLE = {endpoint: Load() for endpoint in ENDPOINTS}
warmths = st.sampled_from([0.01, 0.1, 0.5, 1.0])


@given(
    endpoints,
    st.lists(st.builds(Load, st.integers(0, 50), warmths), min_size=8, max_size=8),
)
def test_no_endpoint_is_chosen_beyond_its_share_and_somebody_always_is(
    preferred: list[str], given: list[Load]
) -> None:
    loads = dict(zip(ENDPOINTS, given, strict=True))
    chosen = choose(preferred, loads)
    total = sum(loads[endpoint].in_flight for endpoint in preferred) + 1
    warmth = sum(loads[endpoint].warmth for endpoint in preferred)
    share = total * loads[chosen].warmth / warmth
    assert loads[chosen].in_flight + 1 < LOAD_BOUND * share + 1.001


def test_an_endpoint_that_is_just_back_gets_less() -> None:
    preferred = ranked("s", ENDPOINTS)
    loads = {endpoint: Load(in_flight=4) for endpoint in ENDPOINTS}
    assert choose(preferred, loads | {preferred[0]: Load(1, warmth=1.0)}) == preferred[0]
    assert choose(preferred, loads | {preferred[0]: Load(1, warmth=0.1)}) == preferred[1]


def test_an_idle_mesh_follows_the_ranking() -> None:
    preferred = ranked("s", ENDPOINTS)
    assert choose(preferred, IDLE) == preferred[0]


class TestPins:
    def test_load_does_not_move_a_session_in_mid_answer(self) -> None:
        pins = Pins()
        first = pins.pick("s", IDLE)
        assert pins.pick("s", busy(first)) == first

    def test_load_moves_a_session_that_begins(self) -> None:
        preferred = ranked("s", ENDPOINTS)
        assert Pins().pick("s", busy(preferred[0])) == preferred[1]

    def test_a_session_whose_endpoint_went_stays_with_the_next(self) -> None:
        pins = Pins()
        first = pins.pick("s", IDLE)
        others = {endpoint: Load() for endpoint in ENDPOINTS if endpoint != first}
        second = pins.pick("s", others)
        assert second == ranked("s", ENDPOINTS)[1]
        assert pins.pick("s", IDLE) == second

    def test_a_session_goes_where_it_is_pinned(self) -> None:
        pins = Pins()
        other = ranked("s", ENDPOINTS)[3]
        pins.pin("s", other)
        assert pins.pick("s", IDLE) == other

    def test_the_session_unseen_for_longest_is_forgotten(self) -> None:
        pins = Pins(kept=2)
        moved = pins.pick("old", busy(ranked("old", ENDPOINTS)[0]))
        pins.pick("other", IDLE)
        assert pins.pick("old", IDLE) == moved
        pins.pick("third", IDLE)
        assert pins.pick("old", IDLE) == moved
        pins.pick("other", IDLE)
        pins.pick("third", IDLE)
        assert pins.pick("old", IDLE) == ranked("old", ENDPOINTS)[0]
