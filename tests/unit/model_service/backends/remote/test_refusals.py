"""What a server's refusals mean."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_service.backends.remote.refusals import Refusal, error_of, retry_after
from specfuse.errors import (
    Misconfigured,
    ModelFailure,
    Overloaded,
    SpecFuseError,
    Unavailable,
)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, ModelFailure),
        (401, Misconfigured),
        (403, Misconfigured),
        (404, Misconfigured),
        (405, Misconfigured),
        (422, ModelFailure),
        (429, Overloaded),
        (500, Unavailable),
        (502, Unavailable),
        (503, Overloaded),
        (599, Unavailable),
    ],
)
def test_each_status_has_a_meaning(status: int, error: type[SpecFuseError]) -> None:
    assert type(error_of(Refusal(status, {}), lambda _: None)) is error


def test_a_kind_of_server_may_mean_something_else() -> None:
    meant = Unavailable("asleep")
    assert error_of(Refusal(418, "tea"), lambda _: meant) is meant
    assert str(meant.__cause__) == "418 tea"


@given(st.integers(100, 999), st.text(min_size=65) | st.dictionaries(st.text(), st.text()))
def test_a_servers_own_words_stay_in_the_cause(status: int, body: Any) -> None:
    said = {"error": {"message": "SECRET", "type": f"SECRET\n{body}"}}
    assert "SECRET" not in error_of(Refusal(status, said), lambda _: None).message


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7),
        (" 12 ", 12),
        ("9999", 3600),
        ("99999999999", None),
        ("-1", None),
        ("soon", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
        ("", None),
        (None, None),
    ],
)
def test_when_to_come_back_is_read_with_care(header: str | None, seconds: float | None) -> None:
    assert retry_after(header) == seconds


def test_it_is_told_to_whoever_asked() -> None:
    error = error_of(Refusal(503, "busy", 2.5), lambda _: None)
    assert error.metadata == {"retry_after_seconds": "2.5"}
