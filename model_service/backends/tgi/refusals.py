"""What text-generation-inference's refusals mean."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

from model_service.backends.remote.refusals import Refusal
from specfuse.errors import (
    ContextTooLong,
    InvalidArgument,
    Misconfigured,
    SpecFuseError,
    Unavailable,
)

_TOTAL: Final = re.compile(
    r"Input validation error: `inputs` tokens \+ `max_new_tokens` must be <= (?P<window>\d{1,9})\. "
    r"Given: (?P<tokens>\d{1,9}) `inputs` tokens and (?P<more>\d{1,9}) `max_new_tokens`"
)
_INPUT: Final = re.compile(
    r"Input validation error: `inputs` must have less than (?P<window>\d{1,9}) tokens\. "
    r"Given: (?P<tokens>\d{1,9})"
)


def translated(refusal: Refusal) -> SpecFuseError | None:
    """The error that a refusal stands for, where it is not the usual one."""
    match refusal.status, refusal.kind:
        case HTTPStatus.UNPROCESSABLE_ENTITY, "validation":
            return _too_long(refusal.words)
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _:
            return InvalidArgument(
                "context", "is more text than the server takes in a request; shorten it"
            )
        case HTTPStatus.FAILED_DEPENDENCY, _:
            return Unavailable("the server's model failed to generate")
        case HTTPStatus.SERVICE_UNAVAILABLE, _:
            return Unavailable("the server is not ready")
        case HTTPStatus.NOT_FOUND, _ if "tokenizer" in refusal.words:
            return Misconfigured("url: the server's model has no fast tokenizer (tokenizer.json)")
        case _:
            return None


def _too_long(words: str) -> ContextTooLong | None:
    """The whole of what it says must be this: a number in it is then not of a prompt."""
    found = _TOTAL.fullmatch(words) or _INPUT.fullmatch(words)
    if found is None:
        return None
    more = found.groupdict().get("more") or 0
    return ContextTooLong(tokens=int(found["tokens"]) + int(more), window=int(found["window"]))
