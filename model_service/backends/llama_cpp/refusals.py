"""What llama-server's refusals mean."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from model_service.backends.remote.refusals import Refusal
from specfuse.errors import ContextTooLong, Misconfigured, ModelFailure, SpecFuseError, Unavailable

_GRAMMAR: Final = "grammar"


class GrammarRefused(ModelFailure):
    """The server cannot force these tokens by a grammar."""

    reason = "GRAMMAR_REFUSED"


def translated(refusal: Refusal) -> SpecFuseError | None:
    """The error that a refusal stands for, where it is not the usual one."""
    match refusal.status, refusal.kind:
        case HTTPStatus.BAD_REQUEST, "exceed_context_size_error":
            return _too_long(refusal)
        case HTTPStatus.SERVICE_UNAVAILABLE, _:
            return Unavailable("the server is loading its model")
        case HTTPStatus.INTERNAL_SERVER_ERROR, _ if _GRAMMAR in refusal.words:
            return GrammarRefused("the server cannot force a candidate's tokens")
        case HTTPStatus.NOT_IMPLEMENTED, _:
            return Misconfigured(
                "url: the server was started without something that is asked of it"
            )
        case _:
            return None


def _too_long(refusal: Refusal) -> SpecFuseError | None:
    error = refusal.body.get("error", {})
    tokens, window = error.get("n_prompt_tokens"), error.get("n_ctx")
    if not isinstance(tokens, int) or not isinstance(window, int):
        return None
    return ContextTooLong(tokens=tokens, window=window)
