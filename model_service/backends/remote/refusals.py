"""What a server says instead of an answer, as our errors.

A server's own words may quote the prompt. They go no further than an error's cause, which is shown
only at the start, when there are no prompts yet.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from specfuse.errors import Misconfigured, ModelFailure, Overloaded, SpecFuseError, Unavailable

_MOST_CHARACTERS: Final = 300
_MOST_SECONDS: Final = 3600
_WORD: Final = re.compile(r"[A-Za-z0-9_. -]{1,64}")


@dataclass(eq=False)
class Refusal(Exception):
    """A server's answer with an error's status.

    `body` is what its JSON holds, or its text. `retry_after` is in seconds, if it said so.
    """

    status: int
    body: Any
    retry_after: float | None = None

    @property
    def words(self) -> str:
        """What it says, in one line."""
        error = self.body
        for key in ("error", "message", "detail"):
            if isinstance(error, dict) and key in error:
                error = error[key]
        return " ".join(str(error).split())[:_MOST_CHARACTERS]

    @property
    def kind(self) -> str:
        """The name that it has for such errors, never text of a prompt; or the status's."""
        body = self.body if isinstance(self.body, dict) else {}
        error = body.get("error")
        inner = error if isinstance(error, dict) else {}
        for said in (inner.get("type"), body.get("error_type"), body.get("type")):
            if isinstance(said, str) and _WORD.fullmatch(said):
                return said
        return phrase(self.status)

    def __str__(self) -> str:
        return f"{self.status} {self.words}"


Translate = Callable[[Refusal], SpecFuseError | None]
"""The error that a refusal of one kind of server stands for, or None for the usual one."""


def error_of(refusal: Refusal, translate: Translate) -> SpecFuseError:
    """The error that a refusal stands for: what this kind of server means, or what all mean."""
    error = translate(refusal) or _usual(refusal)
    error.__cause__ = refusal
    return error


def overloaded(refusal: Refusal) -> Overloaded:
    """The server takes no more requests now."""
    said = refusal.retry_after
    wait = {} if said is None else {"retry_after_seconds": f"{said:g}"}
    return Overloaded("the server that runs the model is full", **wait)


def retry_after(header: str | None) -> float | None:
    """The seconds of a `Retry-After` header; None for dates and nonsense."""
    if header is None or not header.strip().isdecimal() or len(header) > len(str(_MOST_SECONDS)):
        return None
    return float(min(int(header), _MOST_SECONDS))


def phrase(status: int) -> str:
    """`404 Not Found`."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _usual(refusal: Refusal) -> SpecFuseError:
    match refusal.status:
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            return Misconfigured(
                f"api_key_file: the server refuses our key ({phrase(refusal.status)})"
            )
        case HTTPStatus.NOT_FOUND | HTTPStatus.METHOD_NOT_ALLOWED:
            return Misconfigured(
                f"url: the server does not know this request ({phrase(refusal.status)}); "
                "is it of the kind that `backend` says?"
            )
        case status if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            return Misconfigured(
                f"url: the server says that it is elsewhere ({phrase(status)}); give that address"
            )
        case HTTPStatus.TOO_MANY_REQUESTS | HTTPStatus.SERVICE_UNAVAILABLE:
            return overloaded(refusal)
        case status if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return Unavailable(f"the server that runs the model failed ({refusal.kind})")
        case _:
            return ModelFailure(f"the server finds a request wrong ({refusal.kind})")
