"""What a call may ask for. Pure.

Fields are named as in the contract. No error repeats text of a prompt or an answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from model_service.core.types import Role
from specfuse.errors import InvalidArgument

if TYPE_CHECKING:
    from model_service.core.types import (
        Candidate,
        Context,
        Message,
        ProposeRequest,
        Sampling,
        ScoreRequest,
    )
    from model_service.settings import Limits

MAX_MESSAGES: Final = 1024
MAX_COMMITTED_SEGMENTS: Final = 4096
MAX_SESSION_ID_BYTES: Final = 128
MAX_STOPS: Final = 16
MAX_STOP_BYTES: Final = 256
MAX_TEMPERATURE: Final = 2.0
MAX_TOP_K: Final = 1000


def check_proposal(request: ProposeRequest, limits: Limits) -> None:
    """Refuses a proposal call that asks for what it may not.

    Raises:
        InvalidArgument: a field is wrong; names it, its value and what it may be.
    """
    _check_context(request.context, limits)
    _between("max_tokens", request.max_tokens, 1, limits.segment_tokens)
    _check_sampling(request.sampling)
    _between("stop", len(request.stop), 0, MAX_STOPS, "strings")
    for index, string in enumerate(request.stop):
        _between(f"stop[{index}]", _size(string), 1, MAX_STOP_BYTES, "bytes")


def check_scoring(request: ScoreRequest, limits: Limits) -> None:
    """Refuses a scoring call that asks for what it may not.

    Raises:
        InvalidArgument: a field is wrong; names it, its value and what it may be.
    """
    _check_context(request.context, limits)
    _between("candidates", len(request.candidates), 1, limits.candidates, "candidates")
    for index, candidate in enumerate(request.candidates):
        _check_candidate(f"candidates[{index}].text", candidate, limits)


def _check_candidate(field: str, candidate: Candidate, limits: Limits) -> None:
    if not candidate.text and not candidate.finished:
        raise InvalidArgument(field, "is empty; only a finished candidate's may be")
    _between(field, _size(candidate.text), 0, limits.candidate_bytes, "bytes")


def _check_context(context: Context, limits: Limits) -> None:
    if isinstance(context.prompt, str):
        _between("context.raw_prompt", _size(context.prompt), 1, limits.prompt_bytes, "bytes")
    else:
        _check_conversation(context.prompt, limits)
    committed = context.committed
    field = "context.committed_segments"
    _between(field, len(committed), 0, MAX_COMMITTED_SEGMENTS, "segments")
    _between(field, sum(map(_size, committed)), 0, limits.committed_bytes, "bytes")
    _between("context.session_id", _size(context.session_id), 0, MAX_SESSION_ID_BYTES, "bytes")


def _check_conversation(messages: tuple[Message, ...], limits: Limits) -> None:
    field = "context.conversation.messages"
    _between(field, len(messages), 1, MAX_MESSAGES, "messages")
    _between(field, sum(_size(m.content) for m in messages), 0, limits.prompt_bytes, "bytes")
    for index, message in enumerate(messages):
        if message.role is Role.SYSTEM and index:
            raise InvalidArgument(
                f"{field}[{index}].role", "is system; only the first message may be"
            )
        if message.role is Role.USER and not message.content:
            raise InvalidArgument(f"{field}[{index}].content", "is empty; a user's may not be")
    if messages[-1].role is not Role.USER:
        raise InvalidArgument(
            f"{field}[{len(messages) - 1}].role",
            f"is {messages[-1].role.value}; the last message must be the user's",
        )


def _check_sampling(sampling: Sampling) -> None:
    _between("sampling.temperature", sampling.temperature, 0, MAX_TEMPERATURE)
    _between("sampling.top_k", sampling.top_k, 0, MAX_TOP_K)
    if not 0 < sampling.top_p <= 1:
        raise InvalidArgument(
            "sampling.top_p",
            f"is {sampling.top_p}; must be above 0 and at most 1",
            value=str(sampling.top_p),
            limit="1",
        )


def _between(field: str, value: float, low: float, high: float, unit: str = "") -> None:
    """Refuses what is outside [low, high], NaN included."""
    if not low <= value <= high:
        limit = low if value < low else high
        raise InvalidArgument(
            field,
            f"is {value} {unit}".rstrip() + f"; must be {low} to {high}",
            value=str(value),
            limit=str(limit),
        )


def _size(text: str) -> int:
    return len(text.encode())
