"""Which replica serves a session: the same for everybody, for as long as it can."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from fuser_service.mesh.balancing import LOAD_BOUND, Load, Pins, choose, ranked, share_of
from fuser_service.mesh.discovery.port import Endpoint

ENDPOINTS = tuple(Endpoint(f"replica-{number}:50051") for number in range(8))
ADDRESSES = tuple(endpoint.address for endpoint in ENDPOINTS)

endpoints = st.lists(st.sampled_from(ENDPOINTS), min_size=1, unique=True)
sessions = st.text(max_size=20)


def in_zones(*zones: str, own: str = "") -> tuple[Endpoint, ...]:
    """An endpoint in each zone, as fusers of the own zone see them."""
    return tuple(
        Endpoint(f"replica-{number}:50051", zone, near=bool(own) and zone == own)
        for number, zone in enumerate(zones)
    )


placed = st.lists(st.sampled_from(["west", "east", "south"]), min_size=1, max_size=8)


@given(sessions, endpoints, st.randoms())
def test_the_ranking_depends_on_the_session_and_the_set_of_endpoints_alone(
    session: str, some: list[Endpoint], random: object
) -> None:
    shuffled = sorted(some, key=lambda _: random.random())  # type: ignore[attr-defined]
    assert ranked(session, some) == ranked(session, shuffled)
    assert sorted(ranked(session, some)) == sorted(one.address for one in some)


@given(sessions, endpoints, st.sampled_from(ENDPOINTS))
def test_when_an_endpoint_goes_only_its_own_sessions_move(
    session: str, some: list[Endpoint], gone: Endpoint
) -> None:
    left = [endpoint for endpoint in some if endpoint != gone]
    if left and ranked(session, some)[0] != gone.address:
        assert ranked(session, left)[0] == ranked(session, some)[0]


@given(sessions, placed)
def test_those_of_the_own_zone_come_first_and_otherwise_nothing_changes(
    session: str, zones: list[str]
) -> None:
    seen = in_zones(*zones, own="west")
    order = ranked(session, seen)
    near = {one.address for one in seen if one.near}
    assert set(order[: len(near)]) == near
    anywhere = ranked(session, in_zones(*zones))
    for some in (near, set(order) - near):
        assert [one for one in order if one in some] == [one for one in anywhere if one in some]


def test_sessions_spread_over_the_endpoints() -> None:
    chosen = Counter(ranked(f"session {number}", ENDPOINTS)[0] for number in range(4000))
    assert len(chosen) == len(ENDPOINTS)
    assert max(chosen.values()) < 1.25 * 4000 / len(ENDPOINTS)


loads_of_all = st.lists(
    st.builds(
        Load,
        st.integers(0, 50),
        st.sampled_from([0.01, 0.1, 0.5, 1.0]),
        st.sampled_from([1.0, 2.0, 3.0]),
    ),
    min_size=8,
    max_size=8,
)


@given(st.lists(st.sampled_from(ADDRESSES), min_size=1, unique=True), loads_of_all)
def test_no_replica_is_chosen_beyond_its_share_and_somebody_always_is(
    preferred: list[str], given: list[Load]
) -> None:
    loads = dict(zip(ADDRESSES, given, strict=True))
    chosen = choose(preferred, loads)
    total = sum(loads[address].in_flight for address in preferred) + 1
    warmth = sum(loads[address].warmth for address in preferred)
    share = loads[chosen].share * total * loads[chosen].warmth / warmth
    assert loads[chosen].in_flight + 1 < LOAD_BOUND * share + 1.001


def test_a_replica_that_is_just_back_gets_less() -> None:
    preferred = ranked("s", ENDPOINTS)
    loads = {address: Load(in_flight=4) for address in ADDRESSES}
    assert choose(preferred, loads | {preferred[0]: Load(1, warmth=1.0)}) == preferred[0]
    assert choose(preferred, loads | {preferred[0]: Load(1, warmth=0.1)}) == preferred[1]


def test_an_idle_mesh_follows_the_ranking() -> None:
    preferred = ranked("s", ENDPOINTS)
    assert choose(preferred, {address: Load() for address in ADDRESSES}) == preferred[0]


def test_load_moves_a_session_that_begins() -> None:
    preferred = ranked("s", ENDPOINTS)
    loads = {address: Load(100 * (address == preferred[0])) for address in ADDRESSES}
    assert choose(preferred, loads) == preferred[1]


def spread(sessions: int, *zones: str, own: str) -> Counter[str]:
    """How many of so many sessions that stay each zone gets from a fuser of the own zone."""
    seen = in_zones(*zones, own=own)
    taken: Counter[str] = Counter()
    for number in range(sessions):
        loads = {one.address: Load(taken[one.address], share=share_of(one, seen)) for one in seen}
        taken[choose(ranked(f"session {number}", seen), loads)] += 1
    return Counter({zone: sum(taken[e.address] for e in seen if e.zone == zone) for zone in zones})


def test_a_fuser_keeps_to_its_zone_where_all_zones_have_as_many_replicas() -> None:
    zones = ("west", "west", "east", "east", "south", "south")
    assert spread(300, *zones, own="west") == {"west": 300, "east": 0, "south": 0}


def test_a_zone_that_is_full_spills_over() -> None:
    few = spread(400, "west", "east", "east", "east", own="west")
    assert 0.5 * 400 <= few["west"] <= LOAD_BOUND * 0.5 * 400 + 1
    assert few["west"] + few["east"] == 400


def test_all_replicas_get_as_much_where_fusers_are_spread_evenly() -> None:
    zones = ("west", "east", "east", "east")
    total = spread(400, *zones, own="west") + spread(400, *zones, own="east")
    mean = 800 / len(zones)
    assert total["west"] <= LOAD_BOUND * mean + 1
    assert total["east"] / 3 <= LOAD_BOUND * mean + 1


class TestPins:
    def test_a_session_is_where_it_was_pinned_last(self) -> None:
        pins = Pins()
        assert pins.get("s") is None
        pins.pin("s", "a:1")
        pins.pin("s", "b:1")
        assert pins.get("s") == "b:1"

    def test_the_session_unseen_for_longest_is_forgotten(self) -> None:
        pins = Pins(kept=2)
        pins.pin("old", "a:1")
        pins.pin("other", "a:1")
        pins.pin("old", "a:1")
        pins.pin("third", "a:1")
        assert (pins.get("old"), pins.get("other"), pins.get("third")) == ("a:1", None, "a:1")
