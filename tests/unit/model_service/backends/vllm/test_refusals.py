"""What the real server was seen to refuse, as our errors."""

from __future__ import annotations

from typing import Any

import pytest

from model_service.backends.remote.refusals import Refusal, error_of
from model_service.backends.vllm.refusals import translated
from specfuse.errors import (
    ContextTooLong,
    Misconfigured,
    ModelFailure,
    Overloaded,
    SpecFuseError,
    Unavailable,
)

TOO_LONG = (
    "This model's maximum context length is 1024 tokens. However, your prompt contains {}1100 "
    "input tokens, which exceeds this limit even without any output tokens. Please reduce the "
    "length of the input prompt. (parameter=input_tokens, value=1100)"
)


def refused(message: str, kind: str, param: str | None, code: int) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


@pytest.mark.parametrize("least", ["", "at least "])
def test_a_prompt_that_is_too_long(least: str) -> None:
    body = refused(TOO_LONG.format(least), "BadRequestError", "input_tokens", 400)
    error = error_of(Refusal(400, body), translated)
    assert isinstance(error, ContextTooLong)
    assert error.metadata["tokens"] == "1100"
    assert error.metadata["window"] == "1024"


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, refused("Token id 9 is out", "BadRequestError", None, 400), ModelFailure),
        (400, refused("Field required", "Bad Request", "body.max_tokens", 400), ModelFailure),
        (401, {"error": "Unauthorized"}, Misconfigured),
        (404, refused("The model `x` does not", "NotFoundError", "model", 404), Misconfigured),
        (404, {"detail": "Not Found"}, Misconfigured),
        (405, {"detail": "Method Not Allowed"}, Misconfigured),
        (500, refused("EngineCore", "InternalServerError", None, 500), Unavailable),
        (500, "Internal Server Error", Unavailable),
        (503, "", Unavailable),
        (503, refused("busy", "Service Unavailable", None, 503), Overloaded),
        (429, "", Overloaded),
    ],
)
def test_others(status: int, body: object, error: type[SpecFuseError]) -> None:
    assert type(error_of(Refusal(status, body), translated)) is error


def test_a_model_that_is_gone_is_told_from_a_route_that_never_was() -> None:
    body = refused("The model `x` does not exist.", "NotFoundError", "model", 404)
    assert "served_model" in error_of(Refusal(404, body), translated).message
    assert "url" in error_of(Refusal(404, {"detail": "Not Found"}), translated).message
