"""What vLLM's refusals mean."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

from model_service.backends.remote.refusals import Refusal, overloaded
from specfuse.errors import ContextTooLong, Misconfigured, SpecFuseError, Unavailable

_BUSY: Final = "Service Unavailable"
"""What it calls a full queue. An engine that died has the same status, and no words."""

_TOO_LONG: Final = re.compile(
    r"maximum context length is (?P<window>\d+) tokens.* contains (?:at least )?(?P<tokens>\d+) "
)


def translated(refusal: Refusal) -> SpecFuseError | None:
    """The error that a refusal stands for, where it is not the usual one."""
    match refusal.status, refusal.kind:
        case HTTPStatus.BAD_REQUEST, _:
            return _too_long(refusal)
        case HTTPStatus.NOT_FOUND, "NotFoundError":
            return Misconfigured("served_model: the server has no such model any more")
        case HTTPStatus.SERVICE_UNAVAILABLE, kind:
            dead = Unavailable("the server's engine does not run")
            return overloaded(refusal) if kind == _BUSY else dead
        case _:
            return None


def _too_long(refusal: Refusal) -> SpecFuseError | None:
    said = _TOO_LONG.search(refusal.words)
    if said is None:
        return None
    return ContextTooLong(tokens=int(said["tokens"]), window=int(said["window"]))
