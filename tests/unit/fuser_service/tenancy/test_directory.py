"""From what a call shows to who makes it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuser_service.tenancy.caller import Caller, Credentials, Team
from fuser_service.tenancy.directory import Directory, anonymous_of
from fuser_service.tenancy.keys import Key, digest_of, id_of, is_key, new_key
from specfuse.errors import Unauthenticated

NOW = datetime(2026, 11, 30, tzinfo=UTC)
SEARCH, BATCH = Team("search"), Team("batch")
TEAMS = {"search": SEARCH, "batch": BATCH}
KEY, OLD = new_key(), new_key()
KEYS = (
    Key(id_of(KEY), digest_of(KEY), "search", NOW + timedelta(seconds=1)),
    Key(id_of(OLD), digest_of(OLD), "search", NOW),
)
CLOSED = Directory(teams=TEAMS, certificates={"batch.example": "batch"}).with_keys(KEYS)
OPEN = Directory(teams=TEAMS, anonymous=anonymous_of(TEAMS)).with_keys(KEYS)


def shown(*authorization: str, names: tuple[str, ...] = ()) -> Credentials:
    return Credentials(authorization, names)


@pytest.mark.parametrize("header", ["Bearer {}", "bearer  {} ", "BEARER {}"])
def test_a_key_says_which_team(header: str) -> None:
    assert CLOSED.caller(shown(header.format(KEY)), NOW) == Caller(SEARCH, id_of(KEY))


REFUSED = {
    "nothing": ((), "an API key is needed: send one as `authorization: Bearer sf-...`"),
    "empty": (("",), "is not of the scheme Bearer"),
    "no scheme": ((KEY,), "is not of the scheme Bearer"),
    "another scheme": ((f"Basic {KEY}",), "is not of the scheme Bearer"),
    "another's key": (("Bearer sk-proj-123",), "has not the form of an API key"),
    "two keys": ((f"Bearer {KEY} {KEY}",), "has not the form of an API key"),
    "another letter": ((f"Bearer {KEY[:-1]}é",), "has not the form of an API key"),
    "unknown": ((f"Bearer {new_key()}",), "is not known here; it may have been revoked"),
    "expired": ((f"Bearer {OLD}",), f"{id_of(OLD)} expired on 2026-11-30"),
    "two headers": ((f"Bearer {KEY}", f"Bearer {KEY}"), "several `authorization` headers"),
}


@pytest.mark.parametrize(("headers", "why"), REFUSED.values(), ids=REFUSED)
def test_everybody_else_is_told_why_not(headers: tuple[str, ...], why: str) -> None:
    with pytest.raises(Unauthenticated, match=why) as refused:
        CLOSED.caller(shown(*headers), NOW)
    for secret in (KEY, OLD):
        assert secret not in refused.value.message
    if any(header.strip() for header in headers):
        with pytest.raises(Unauthenticated):
            OPEN.caller(shown(*headers), NOW)


@given(st.lists(st.text(max_size=80), max_size=3), st.lists(st.text(max_size=20), max_size=3))
def test_nothing_made_up_gets_in(headers: list[str], names: list[str]) -> None:
    with pytest.raises(Unauthenticated):
        CLOSED.caller(Credentials(tuple(headers), tuple(names)), NOW)


@pytest.mark.parametrize("nothing", [(), ("Bearer ",), ("Bearer",)])
def test_who_shows_nothing_is_anonymous_where_that_is_allowed(nothing: tuple[str, ...]) -> None:
    assert OPEN.caller(shown(*nothing), NOW) == Caller(Team("anonymous"))
    with pytest.raises(Unauthenticated):
        CLOSED.caller(shown(*nothing), NOW)


def test_anonymous_callers_may_have_limits() -> None:
    limited = Team("anonymous", requests_per_minute=3)
    assert anonymous_of({"anonymous": limited}) is limited


def test_where_there_are_no_keys_what_is_sent_as_one_means_nothing() -> None:
    keyless = Directory(teams={}, anonymous=anonymous_of({}))
    for header in ("Bearer sk-whatever", f"Bearer {KEY}", "Basic x", ""):
        assert keyless.caller(shown(header), NOW).team.name == "anonymous"


def test_a_certificate_is_known_by_any_of_its_names_and_a_key_counts_more() -> None:
    names = ("else.example", "batch.example")
    assert CLOSED.caller(shown(names=names), NOW) == Caller(BATCH, "batch.example")
    assert CLOSED.caller(shown(f"Bearer {KEY}", names=names), NOW).team == SEARCH
    with pytest.raises(Unauthenticated):
        CLOSED.caller(shown("Bearer sf-wrong", names=names), NOW)
    only_certificates = Directory(teams=TEAMS, certificates={"batch.example": "batch"})
    with pytest.raises(Unauthenticated, match=r"its names \(x\) are not"):
        only_certificates.caller(shown(names=("x",)), NOW)


def test_neither_keys_nor_hashes_are_shown_by_accident() -> None:
    text = f"{CLOSED!r} {shown(f'Bearer {KEY}')!r}"
    assert KEY not in text
    assert digest_of(KEY) not in text


def test_keys_are_of_one_form_and_never_the_same() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(is_key(key) and key.startswith("sf-") and len(key) == 46 for key in keys)
