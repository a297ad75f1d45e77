"""What SGLang refuses, by its sources, as our errors."""

from __future__ import annotations

import pytest

from model_service.backends.remote.refusals import Refusal, error_of
from model_service.backends.sglang.refusals import translated
from specfuse.errors import (
    ContextTooLong,
    Misconfigured,
    ModelFailure,
    Overloaded,
    SpecFuseError,
    Unavailable,
)


@pytest.mark.parametrize(
    "message",
    [
        "Input length (1100 tokens) exceeds the maximum allowed length (1018 tokens). Shorten it.",
        "The input (1100 tokens) is longer than the model's context length (1018 tokens).",
    ],
)
def test_an_input_that_is_too_long(message: str) -> None:
    error = error_of(Refusal(400, {"error": {"message": message}}), translated)
    assert isinstance(error, ContextTooLong)
    assert (error.metadata["tokens"], error.metadata["window"]) == ("1100", "1018")


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, {"error": {"message": "top_k must be -1 (disable) or at least 1"}}, ModelFailure),
        (400, {"object": "error", "message": "bad JSON", "type": "Bad Request"}, ModelFailure),
        (401, {"error": "Unauthorized"}, Misconfigured),
        (404, {"detail": "Not Found"}, Misconfigured),
        (500, "Internal Server Error", Unavailable),
        (503, {"object": "error", "message": "The request queue is full."}, Overloaded),
    ],
)
def test_others(status: int, body: object, error: type[SpecFuseError]) -> None:
    assert type(error_of(Refusal(status, body), translated)) is error
