"""The API key that calls bring along, and where it does not go."""

from __future__ import annotations

import pytest

from specfuse.client.key import API_KEY_VARIABLE, headers_of
from specfuse.errors import InvalidArgument, Misconfigured

SENT = (("authorization", "Bearer sf-secret"),)
ELSEWHERE = [
    "fuser:50050",
    "10.0.0.1:50050",
    "[2001:db8::1]:1",
    "dns:///fuser:50050",
    "127.1.evil:1",
]


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(API_KEY_VARIABLE, raising=False)


@pytest.mark.parametrize(
    "address", ["127.0.0.1:50050", "localhost:1", "[::1]:50050", "127.8.8.8:1", "unix:/run/fuser"]
)
def test_to_this_machine_it_goes_in_plain_text(address: str) -> None:
    assert headers_of("sf-secret", [address], encrypted=False) == SENT


@pytest.mark.parametrize("address", ELSEWHERE)
def test_to_others_it_goes_encrypted_or_not_at_all(address: str) -> None:
    addresses = ["127.0.0.1:50050", address]
    with pytest.raises(Misconfigured, match="in plain text") as refused:
        headers_of("sf-secret", addresses, encrypted=False)
    assert address in refused.value.message
    assert "sf-secret" not in refused.value.message
    assert headers_of("sf-secret", addresses, encrypted=True) == SENT


def test_the_environment_has_one_unless_another_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    assert headers_of(None, ELSEWHERE, encrypted=False) == ()
    monkeypatch.setenv(API_KEY_VARIABLE, "sf-secret\n")
    assert headers_of(None, (), encrypted=False) == SENT
    assert headers_of("sf-other", (), encrypted=False) == (("authorization", "Bearer sf-other"),)
    assert headers_of("", ELSEWHERE, encrypted=False) == ()


@pytest.mark.parametrize("wrong", ["sf-sécret", "sf-\na: b", "sf-\x00"])
def test_what_no_header_can_carry_is_refused_and_not_repeated(wrong: str) -> None:
    with pytest.raises(InvalidArgument, match="api_key: is not printable ASCII") as refused:
        headers_of(wrong, (), encrypted=True)
    assert wrong not in refused.value.message
