"""Options of where to call, as addresses."""

from __future__ import annotations

import pytest

from specfuse.cli.connection import DEFAULT_ADDRESS, addresses_of, key_of
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


def test_a_key_comes_from_a_file_or_else_from_the_environment(tmp_path):
    file = tmp_path / "key"
    file.write_text("sf-secret\n")
    assert key_of(file) == "sf-secret"
    assert key_of(None) is None


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "cannot be read: No such file"), (b"\n", "is empty"), (b"\xff", "")],
)
def test_a_file_without_a_key_is_refused(tmp_path, content, says):
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidArgument, match=f"--api-key-file: .*{says}"):
        key_of(file)
