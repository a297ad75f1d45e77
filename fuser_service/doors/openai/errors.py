"""Errors in OpenAI's form: the one table of statuses, types and codes. Pure.

An error about a field names it as the request does, not as the contract does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from specfuse.errors import Code, ContextTooLong, InvalidArgument, SpecFuseError

KIND: Final = "kind"
"""The metadata of an `InvalidArgument` that has OpenAI's code for what is wrong with the field."""

RETRY_AFTER: Final = "retry_after_seconds"
"""The metadata of an error that says when to try again."""

_SOON: Final = "1"
_BAD_REQUEST: Final = "invalid_request_error"


@dataclass(frozen=True, slots=True)
class Presented:
    """How errors of one kind look: the status, and OpenAI's type and code."""

    status: int
    type: str
    code: str


CODES: Final[Mapping[Code, Presented]] = MappingProxyType(
    {
        Code.INVALID_ARGUMENT: Presented(400, _BAD_REQUEST, "invalid_value"),
        Code.UNAUTHENTICATED: Presented(401, "authentication_error", "invalid_api_key"),
        Code.FORBIDDEN: Presented(403, "permission_error", "permission_denied"),
        Code.NOT_FOUND: Presented(404, _BAD_REQUEST, "model_not_found"),
        Code.DEADLINE_EXCEEDED: Presented(408, "timeout_error", "deadline_exceeded"),
        Code.RATE_LIMITED: Presented(429, "rate_limit_error", "rate_limit_exceeded"),
        Code.CANCELLED: Presented(499, "api_error", "cancelled"),
        Code.OVERLOADED: Presented(503, "overloaded_error", "overloaded"),
        Code.UNAVAILABLE: Presented(503, "service_unavailable_error", "unavailable"),
        Code.UNKNOWN: Presented(500, "api_error", "internal_error"),
        Code.MISCONFIGURED: Presented(500, "api_error", "internal_error"),
        Code.INTERNAL: Presented(500, "api_error", "internal_error"),
    }
)
"""Every kind of error. The table is total; a test enumerates the kinds."""

REFUSED_BY_MODELS: Final = Presented(422, _BAD_REQUEST, "unprocessable_prompt")
"""An invalid argument that only the models found, such as a conversation with no template for it.
"""

CONTEXT_TOO_LONG: Final = Presented(400, _BAD_REQUEST, "context_length_exceeded")

_STATUSES: Final[Mapping[int, Presented]] = {
    400: Presented(400, _BAD_REQUEST, "bad_request"),
    403: Presented(403, "permission_error", "foreign_host"),
    404: Presented(404, _BAD_REQUEST, "unknown_url"),
    405: Presented(405, _BAD_REQUEST, "method_not_allowed"),
    408: Presented(408, "timeout_error", "request_incomplete"),
    413: Presented(413, _BAD_REQUEST, "request_too_large"),
    415: Presented(415, _BAD_REQUEST, "unsupported_media_type"),
    429: CODES[Code.RATE_LIMITED],
    503: CODES[Code.OVERLOADED],
}
"""Of what is wrong with a request as HTTP has it."""

_NAMES: Final = {
    "ensemble": "model",
    "conversation.messages": "messages",
    "conversation": "messages",
    "raw_prompt": "prompt",
    "sampling.temperature": "temperature",
    "sampling.top_p": "top_p",
    "sampling.top_k": "specfuse.top_k",
    "overrides": "specfuse",
    "session_id": "specfuse.session_id",
    "committed_segments": "specfuse.resume.committed_segments",
    "committed_tokens": "specfuse.resume.committed_tokens",
}
"""The contract's names of fields, longer ones first, and those of this door."""


class HttpProblem(Exception):
    """Something is wrong with a request as HTTP has it, before it is a query."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = dict(headers or {})


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """An error as it is sent."""

    status: int
    error: dict[str, Any]
    """What is under `error`: message, type, param, code, and under `specfuse` what is ours."""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        """The JSON of it."""
        return json.dumps({"error": self.error}).encode()


def of_http(problem: HttpProblem) -> ErrorResponse:
    """What is wrong with a request as HTTP has it."""
    presented = _STATUSES.get(problem.status, _STATUSES[400])
    headers = dict(problem.headers)
    if presented.status in {429, 503}:
        headers["retry-after"] = _SOON
    return ErrorResponse(problem.status, _object(presented, problem.message), headers)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a query stood when it failed."""

    names: Mapping[str, str]
    """What fields are called in this request, where that is not what they are called in any."""
    begun: bool
    """Whether the models had been asked."""
    resume: dict[str, Any] | None
    """What a new request needs to go on, if anything was committed."""


NOT_ASKED: Final = Standing({}, begun=False, resume=None)
"""It was not even a query."""


def of_service(error: SpecFuseError, standing: Standing = NOT_ASKED) -> ErrorResponse:
    """What the service raised."""
    presented, message, param = _presented(error, standing)
    body = _object(presented, message, param)
    headers = {}
    if error.code is Code.UNAUTHENTICATED:
        headers["www-authenticate"] = "Bearer"
    if presented.status in {429, 503}:
        headers["retry-after"] = error.metadata.get(RETRY_AFTER, _SOON)
    if ours := _ours(error, standing):
        body["specfuse"] = ours
    if standing.resume is not None or (standing.begun and error.code is Code.DEADLINE_EXCEEDED):
        headers["x-should-retry"] = "false"  # work was spent; to repeat it is for the caller to say
    return ErrorResponse(presented.status, body, headers)


def _ours(error: SpecFuseError, standing: Standing) -> dict[str, Any]:
    """What is under `specfuse`. When to ask again is there, too: events have no headers."""
    ours: dict[str, Any] = {} if standing.resume is None else {"resume": standing.resume}
    if error.retry_after_seconds:
        ours[RETRY_AFTER] = error.retry_after_seconds
    return ours


def _presented(error: SpecFuseError, standing: Standing) -> tuple[Presented, str, str | None]:
    presented = CODES[error.code]
    named = error.metadata.get("field")
    if named is None:
        return presented, error.message, None
    param = _name(named, standing.names)
    if isinstance(error, ContextTooLong):
        return CONTEXT_TOO_LONG, _too_long(error), param
    message = error.message.removeprefix(named)
    if isinstance(error, InvalidArgument):
        kind = error.metadata.get(KIND, presented.code)
        presented = REFUSED_BY_MODELS if standing.begun else Presented(400, _BAD_REQUEST, kind)
    return presented, f"{param}{message}", param


def _too_long(error: ContextTooLong) -> str:
    """In the words by which callers tell it from other errors."""
    window, tokens = (error.metadata.get(key, "unknown") for key in ("window", "tokens"))
    least = "" if error.metadata.get("counted") == "true" else "at least "
    return (
        f"This model's maximum context length is {window} tokens, and the request and its answer "
        f"so far have {least}{tokens}; shorten it"
    )


def _name(contracts: str, names: Mapping[str, str]) -> str:
    """A field's name in a request of this door."""
    for known, ours in {**names, **_NAMES}.items():
        if contracts == known or contracts.startswith((f"{known}.", f"{known}[")):
            return ours + contracts.removeprefix(known)
    return contracts


def _object(presented: Presented, message: str, param: str | None = None) -> dict[str, Any]:
    return {
        "message": message,
        "type": presented.type,
        "param": param,
        "code": presented.code,
    }
