"""Refusals of text-generation-inference."""

from __future__ import annotations

from typing import Any

import pytest

from model_service.backends.remote.refusals import Refusal, error_of
from model_service.backends.tgi.refusals import translated
from specfuse.errors import (
    ContextTooLong,
    InvalidArgument,
    Misconfigured,
    ModelFailure,
    Overloaded,
    SpecFuseError,
    Unavailable,
)

TOTAL = (
    "`inputs` tokens + `max_new_tokens` must be <= 64. "
    "Given: 60 `inputs` tokens and 8 `max_new_tokens`"
)
INPUT = "`inputs` must have less than 63 tokens. Given: 90"


def refusal(status: int, error: str, error_type: str) -> Refusal:
    return Refusal(status, {"error": error, "error_type": error_type})


@pytest.mark.parametrize(("words", "tokens", "window"), [(TOTAL, "68", "64"), (INPUT, "90", "63")])
def test_what_is_too_long_is_so_by_the_servers_count(words: str, tokens: str, window: str) -> None:
    error = error_of(refusal(422, f"Input validation error: {words}", "validation"), translated)
    assert isinstance(error, ContextTooLong)
    assert (error.metadata["tokens"], error.metadata["window"]) == (tokens, window)


@pytest.mark.parametrize(
    "words", [f"{INPUT} and 5", f"the prompt was {INPUT}", INPUT.replace("90", "9" * 12)]
)
def test_words_that_only_hold_such_a_sentence_are_not_believed(words: str) -> None:
    error = error_of(refusal(422, f"Input validation error: {words}", "validation"), translated)
    assert type(error) is ModelFailure


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (
            422,
            {"error": "Input validation error: `top_p` ...", "error_type": "validation"},
            ModelFailure,
        ),
        (422, "Failed to deserialize the JSON body: missing field `inputs`", ModelFailure),
        (413, "Failed to buffer the request body: length limit exceeded", InvalidArgument),
        (415, "Expected request with `Content-Type: application/json`", ModelFailure),
        (
            424,
            {"error": "Request failed during generation", "error_type": "generation"},
            Unavailable,
        ),
        (429, {"error": "Model is overloaded", "error_type": "overloaded"}, Overloaded),
        (
            500,
            {"error": "Incomplete generation", "error_type": "incomplete_generation"},
            Unavailable,
        ),
        (503, {"error": "unhealthy", "error_type": "healthcheck"}, Unavailable),
        (401, "", Misconfigured),
        (
            404,
            {"error": "No fast tokenizer available", "error_type": "no fast tokenizer"},
            Misconfigured,
        ),
    ],
)
def test_every_refusal_is_one_of_our_errors(
    status: int, body: Any, kind: type[SpecFuseError]
) -> None:
    error = error_of(Refusal(status, body), translated)
    assert type(error) is kind


def test_no_error_repeats_what_the_server_says() -> None:
    """It may quote a prompt."""
    for status in (400, 413, 422, 424, 500, 503):
        error = error_of(refusal(status, "secret words", "validation"), translated)
        assert "secret" not in error.message
