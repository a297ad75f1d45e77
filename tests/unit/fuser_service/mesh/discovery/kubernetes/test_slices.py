"""What EndpointSlices say of replicas."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fuser_service.mesh.discovery.kubernetes.slices import (
    EndpointSlice,
    complaint,
    endpoints_of,
    zone_of,
)
from fuser_service.mesh.discovery.port import Endpoint
from tests.support.fakes.api_server import endpoint, endpoint_slice

ZONES = ("", "west", "east")


def parsed(*said: dict[str, Any]) -> list[EndpointSlice]:
    """The slices as they are read from an answer."""
    for one in said:
        one["metadata"].setdefault("resourceVersion", "1")
    return [EndpointSlice.model_validate_json(json.dumps(one)) for one in said]


def found(*said: dict[str, Any], port: int | str = "grpc", zone: str = "") -> list[Endpoint]:
    return list(endpoints_of(parsed(*said), port, zone))


def one(**conditions: bool | None) -> list[Endpoint]:
    """What becomes of an endpoint with these conditions, others being as usual."""
    return found(endpoint_slice("a", endpoint("10.0.0.1", **conditions)))


HERE = Endpoint("10.0.0.1:50051")
ENDING = Endpoint("10.0.0.1:50051", terminating=True)


@pytest.mark.parametrize(
    ("ready", "serving", "terminating", "becomes"),
    [
        (True, True, False, [HERE]),
        (None, None, None, [HERE]),
        (None, False, None, [HERE]),
        (False, False, False, []),
        (False, True, False, []),
        (False, None, None, []),
        (False, True, True, [ENDING]),
        (False, None, True, [ENDING]),
        (False, False, True, []),
        (True, True, True, [ENDING]),  # a Service that publishes what is not ready
        (True, False, False, [HERE]),  # the same
    ],
)
def test_states(
    *, ready: bool | None, serving: bool | None, terminating: bool | None, becomes: list[Endpoint]
) -> None:
    assert one(ready=ready, serving=serving, terminating=terminating) == becomes


def test_an_endpoint_without_conditions_is_ready() -> None:
    bare = {"addresses": ["10.0.0.1", "10.0.0.9"]}
    assert found(endpoint_slice("a", bare)) == [HERE], "and only its first address counts"


def test_addresses_of_both_families_are_endpoints_and_names_are_none() -> None:
    assert found(
        endpoint_slice("a", endpoint("fd00::1"), family="IPv6"),
        endpoint_slice("b", endpoint("10.0.0.1")),
        endpoint_slice("c", endpoint("host.example"), family="FQDN"),
    ) == [HERE, Endpoint("[fd00::1]:50051")]


def test_a_pod_with_addresses_of_both_families_is_one_replica() -> None:
    assert found(
        endpoint_slice("a", endpoint("fd00::1", pod="llama-0"), family="IPv6"),
        endpoint_slice("b", endpoint("10.0.0.1", pod="llama-0")),
    ) == [HERE]


def test_a_pod_in_several_slices_is_ending_if_one_of_them_says_so() -> None:
    ending = endpoint("10.0.0.1", ready=False, terminating=True)
    assert found(endpoint_slice("a", endpoint("10.0.0.1")), endpoint_slice("b", ending)) == [ENDING]


def test_a_pod_that_no_longer_serves_is_ending_in_every_slice_that_does_not_know_yet() -> None:
    ended = endpoint("10.0.0.1", ready=False, serving=False, terminating=True)
    assert found(endpoint_slice("a", endpoint("10.0.0.1")), endpoint_slice("b", ended)) == [ENDING]


def test_an_address_that_another_pod_has_by_now_is_that_pods() -> None:
    old = endpoint("10.0.0.1", uid="old", ready=False, terminating=True)
    new = endpoint("10.0.0.1", uid="new")
    for first, second in ((old, new), (new, old)):
        assert found(endpoint_slice("a", first), endpoint_slice("b", second)) == [HERE]


def ports(*said: tuple[str | None, int | None, str | None]) -> list[dict[str, Any]]:
    names = ("name", "port", "protocol")
    return [{k: v for k, v in zip(names, port, strict=True) if v is not None} for port in said]


@pytest.mark.parametrize(
    ("port", "has", "number"),
    [
        ("grpc", [("web", 80, "TCP"), ("grpc", 50052, "TCP")], 50052),
        ("grpc", [("grpc", 50052, None)], 50052),
        ("grpc", [("grpc", 50052, "UDP")], None),
        ("grpc", [("web", 80, "TCP")], None),
        ("grpc", [("grpc", None, "TCP")], None),
        ("", [("", 50052, "TCP")], 50052),
        ("", [(None, 50052, "TCP")], 50052),
        (50052, [("web", 80, "TCP"), ("any", 50052, "TCP")], 50052),
        (50052, [("web", 80, "TCP")], None),
        (50052, [(None, None, "TCP")], 50052),
        (50052, [], 50052),  # a headless Service may have no ports
    ],
)
def test_ports(
    port: int | str, has: list[tuple[str | None, int | None, str | None]], number: int | None
) -> None:
    said = endpoint_slice("a", endpoint("10.0.0.1"), ports=ports(*has))
    expected = [] if number is None else [Endpoint(f"10.0.0.1:{number}")]
    assert found(said, port=port) == expected
    assert (complaint(parsed(said), port) == "") == (number is not None)


def test_a_complaint_names_the_ports_that_there_are() -> None:
    said = endpoint_slice("a", ports=ports(("web", 80, "TCP"), (None, 90, "TCP")))
    assert complaint(parsed(said), "grpc") == (
        "none has the port grpc; there are: (no name): 90, web: 80"
    )


def test_a_service_without_pods_has_a_slice_with_null_for_its_ports_and_that_is_no_mistake() -> (
    None
):
    nothing = endpoint_slice("a") | {"ports": None}
    assert nothing["endpoints"] is None
    assert found(nothing) == []
    assert complaint(parsed(nothing), "grpc") == ""


def test_names_are_no_addresses_and_a_complaint_says_so() -> None:
    names = endpoint_slice("a", endpoint("host.example"), family="FQDN")
    assert complaint(parsed(names), "grpc") == "they have no addresses of IPv4 or IPv6, but FQDN"


def test_what_a_newer_server_says_beyond_that_is_passed_over() -> None:
    known = endpoint("10.0.0.1") | {"hints": {"forZones": [{"name": "west"}]}, "newer": 1}
    assert found(endpoint_slice("a", known) | {"newer": {}}) == [HERE]


@pytest.mark.parametrize(
    "wrong",
    [
        {"endpoints": [{"addresses": []}]},
        {"endpoints": [{"addresses": [7]}]},
        {"endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": "yes"}}]},
        {"endpoints": {}},
        {"ports": [{"port": "50051"}]},
        {"metadata": {"name": "a", "resourceVersion": ""}},
        {"addressType": None},
    ],
)
def test_what_no_server_says_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        parsed(endpoint_slice("a", endpoint("10.0.0.1")) | wrong)


class TestZones:
    def test_near_is_what_is_in_the_same_zone(self) -> None:
        said = endpoint_slice(
            "a", *(endpoint(f"10.0.0.{n}", zone=zone) for n, zone in enumerate(["west", "east"]))
        )
        assert [one.near for one in found(said, zone="east")] == [False, True]
        assert [one.near for one in found(said)] == [False, False]

    def test_nothing_is_near_where_no_zone_is_known(self) -> None:
        assert not found(endpoint_slice("a", endpoint("10.0.0.1")), zone="")[0].near

    def test_a_pod_is_found_by_its_name(self) -> None:
        slices = parsed(
            endpoint_slice("a", endpoint("10.0.0.1", pod="llama-0", zone="west")),
            endpoint_slice("b", endpoint("10.0.0.2", pod="fuser-0", zone="east")),
            endpoint_slice("c", endpoint("10.0.0.3", pod="fuser-1"), {"addresses": ["10.0.0.4"]}),
        )
        assert zone_of(slices, "fuser-0") == "east"
        assert zone_of(slices, "fuser-1") == ""
        assert zone_of(slices, "fuser-2") is None


def of_some_pod(address: str, generation: str, **said: Any) -> dict[str, Any]:
    """An endpoint of one of the pods that have, or had, this address."""
    return endpoint(address, uid=f"{address} {generation}", **said)


said_endpoints = st.builds(
    of_some_pod,
    st.integers(1, 4).map("10.0.0.{}".format),
    st.sampled_from(["old", "new"]),
    zone=st.sampled_from([None, "west", "east"]),
    ready=st.sampled_from([None, True, False]),
    serving=st.sampled_from([None, True, False]),
    terminating=st.sampled_from([None, True, False]),
)
said_slices = st.lists(st.lists(said_endpoints, max_size=4), max_size=4).map(
    lambda some: [endpoint_slice(f"slice-{n}", *one) for n, one in enumerate(some)]
)


@given(said_slices, st.sampled_from(ZONES), st.randoms())
def test_endpoints_are_those_that_serve_each_once_and_in_order(
    said: list[dict[str, Any]], zone: str, random: Any
) -> None:
    endpoints = found(*said, zone=zone)
    addresses = [one.address for one in endpoints]
    assert addresses == sorted(set(addresses))
    conditions = [
        (f"{one['addresses'][0]}:50051", one["conditions"])
        for each in said
        for one in each["endpoints"] or ()
    ]
    for each in endpoints:
        states = [state for address, state in conditions if address == each.address]
        if each.terminating:
            assert any(state.get("terminating") for state in states)
            told = [("serving" if state.get("terminating") else "ready", state) for state in states]
            assert any(state.get(condition) is not False for condition, state in told)
        else:
            assert any(
                state.get("ready") is not False and not state.get("terminating") for state in states
            )
        assert each.near == (bool(zone) and each.zone == zone)
    shuffled = sorted(said, key=lambda _: random.random())
    assert found(*shuffled, zone=zone) == endpoints
