"""Options of where to call, as addresses."""

from __future__ import annotations

import pytest

from specfuse.cli.connection import DEFAULT_ADDRESS, addresses_of
from specfuse.errors import InvalidArgument


@pytest.mark.parametrize(
    ("given", "addresses"),
    [
        (None, [DEFAULT_ADDRESS]),
        ([], [DEFAULT_ADDRESS]),
        (["a:1"], ["a:1"]),
        (["a:1,b:2", "c:3"], ["a:1", "b:2", "c:3"]),
        (["a:1, b:2 "], ["a:1", "b:2"]),
    ],
)
def test_addresses_are_given_again_or_with_commas(given, addresses):
    assert addresses_of(given) == addresses


@pytest.mark.parametrize("given", [[""], ["a:1,"], ["a:1", " "]])
def test_an_empty_address_is_refused(given):
    with pytest.raises(InvalidArgument, match="--address: has an empty one"):
        addresses_of(given)
