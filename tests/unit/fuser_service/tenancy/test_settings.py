"""The section `tenancy`, and when a fuser may do without it."""

from __future__ import annotations

import pytest

from fuser_service.settings.settings import Settings
from fuser_service.tenancy.caller import Team
from specfuse.errors import Misconfigured

REST = "\nmembers: {a: {endpoints: ['h:1']}}\nensembles: {one: {members: [a]}}\n"
CA = "tls: {certificate: c, key: k, client_ca: ca}\n"


def parsed(text: str) -> Settings:
    return Settings.parse(text + REST, source="fuser.yaml")


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "localhost:50050", "[::1]:50050", "127.0.0.9:1"])
def test_on_loopback_it_may_be_absent(listen: str) -> None:
    assert parsed(f"listen: '{listen}'").tenancy is None


@pytest.mark.parametrize("listen", ["0.0.0.0:50050", "[::]:50050", "10.1.2.3:1", "fuser:50050"])
def test_where_others_can_reach_the_fuser_it_must_say_who_may_ask(listen: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        parsed(f"listen: '{listen}'")
    assert refused.value.message == (
        f"fuser.yaml: tenancy: is absent, and others than this machine reach listen: {listen}; "
        "say who may ask, with tenancy: {keys: FILE, teams: {NAME: {}}}, or let everybody, "
        "with tenancy: {anonymous: allow}"
    )
    assert parsed(f"listen: '{listen}'\ntenancy: {{anonymous: allow}}").tenancy is not None


def test_teams_as_those_see_them_who_decide() -> None:
    text = """
tenancy:
  keys: keys.yaml
  teams:
    free: {}
    search: {ensembles: [one], requests_in_flight: 2, requests_per_minute: 3,
             output_tokens_per_minute: 4, priority: 5, certificates: [s.example]}
limits: {requests_waiting: 1}
"""
    directory = parsed(text + CA).tenancy.directory()  # type: ignore[union-attr]
    search = Team("search", frozenset({"one"}), 2, 3, 4, 5)
    assert directory.teams == {"free": Team("free"), "search": search}
    assert directory.certificates == {"s.example": "search"}
    assert directory.keyed
    assert directory.anonymous is None


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ("{}", "fuser.yaml:1: tenancy: nobody could ask; give keys: FILE, or certificates"),
        ("{anonymous: yes}", "fuser.yaml:1: tenancy.anonymous: True: must be 'refuse' or 'allow'"),
        ("{kees: x}", "fuser.yaml:1: tenancy.kees: unknown key; did you mean keys?"),
        (
            "{keys: k, teams: {a: {ensembles: [two]}}}",
            "fuser.yaml:1: tenancy.teams.a.ensembles[0]: there is no two",
        ),
        (
            "{keys: k, teams: {a: {requests_per_minute: 0}}}",
            "tenancy.teams.a.requests_per_minute: 0: must be greater than or equal to 1",
        ),
        (
            "{keys: k, teams: {a: {priority: 3}}}",
            "tenancy.teams.a.priority: has no effect while limits.requests_waiting is 0",
        ),
        (
            "{keys: k, teams: {a: {certificates: [x]}}}",
            "tenancy.teams.a.certificates: need tls.client_ca, or nobody is asked for one",
        ),
        (
            "{keys: k, teams: {a: {certificates: [x]}, b: {certificates: [y, x]}}}",
            "tenancy.teams.b.certificates[1]: x is of the team a already; drop one",
        ),
        ("{keys: k, store: {url: 'http://h'}}", "tenancy.store.url: 'http://h': must match"),
        ("{keys: k, store: {url: 'redis://:pw@h:1'}}", "tenancy.store.url: "),
    ],
)
def test_problems_are_named_with_their_line(section: str, problem: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        parsed(f"tenancy: {section}")
    assert problem in refused.value.message
