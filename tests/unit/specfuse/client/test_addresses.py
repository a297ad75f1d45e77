"""Whom calls go to."""

from __future__ import annotations

import pytest

from specfuse.client.addresses import Addresses
from specfuse.errors import (
    DeadlineExceeded,
    InvalidArgument,
    Misconfigured,
    NotFound,
    Overloaded,
    ShuttingDown,
    Unavailable,
)

GONE = Unavailable("gone")


def test_the_first_is_called_until_it_fails() -> None:
    addresses = Addresses(["a:1", "b:2", "a:1"])
    assert (list(addresses), len(addresses)) == (["a:1", "b:2"], 2)
    seen = []
    for _ in range(3):
        seen.append(addresses.current)
        addresses.failed(addresses.current, GONE)
    assert seen == ["a:1", "b:2", "a:1"]


def test_one_address_is_no_list_of_characters() -> None:
    addresses = Addresses("a:1")
    addresses.failed("a:1", GONE)
    assert list(addresses) == [addresses.current] == ["a:1"]


def test_a_failure_that_others_have_seen_before_changes_nothing() -> None:
    addresses = Addresses(["a:1", "b:2"])
    addresses.failed("a:1", GONE)
    addresses.failed("a:1", GONE)
    assert addresses.current == "b:2"


@pytest.mark.parametrize("failure", [ShuttingDown("x"), Overloaded("x"), DeadlineExceeded("x")])
def test_what_speaks_against_a_fuser_moves_calls(failure: Exception) -> None:
    addresses = Addresses(["a:1", "b:2"])
    addresses.failed("a:1", failure)
    assert addresses.current == "b:2"


@pytest.mark.parametrize("failure", [NotFound("x"), InvalidArgument("x", "y")])
def test_what_speaks_against_the_query_does_not(failure: Exception) -> None:
    addresses = Addresses(["a:1", "b:2"])
    addresses.failed("a:1", failure)
    assert addresses.current == "a:1"


def test_none_is_refused() -> None:
    with pytest.raises(Misconfigured, match="target: empty"):
        Addresses([])
