"""What a call may ask for. Pure.

Fields are named as in the contract. No error repeats text of a prompt or an answer.
"""

from __future__ import annotations

from collections.abc import Iterable

from model_service.core.types import (
    Candidate,
    Context,
    Message,
    ProposeRequest,
    ScoreRequest,
)
from model_service.settings import Limits
from specfuse.errors import InvalidArgument
from specfuse.limits import (
    MAX_COMMITTED_SEGMENTS,
    MAX_SESSION_ID_BYTES,
    between,
    check_sampling,
    check_stop,
    check_turns,
    utf8_bytes,
)


def check_proposal(request: ProposeRequest, limits: Limits) -> None:
    """Refuses a proposal call that asks for something not allowed.

    Raises:
        InvalidArgument: a field is wrong; names it, its value and what it may be.
    """
    _check_context(request.context, limits)
    between("max_tokens", request.max_tokens, 1, limits.segment_tokens)
    sampling = request.sampling
    check_sampling(temperature=sampling.temperature, top_p=sampling.top_p, top_k=sampling.top_k)
    check_stop(request.stop)


def check_scoring(request: ScoreRequest, limits: Limits) -> None:
    """Refuses a scoring call that asks for something not allowed.

    Raises:
        InvalidArgument: a field is wrong; names it, its value and what it may be.
    """
    _check_context(request.context, limits)
    between("candidates", len(request.candidates), 1, limits.candidates, "candidates")
    for index, candidate in enumerate(request.candidates):
        _check_candidate(f"candidates[{index}].text", candidate, limits)


def _check_candidate(field: str, candidate: Candidate, limits: Limits) -> None:
    if not candidate.text and not candidate.finished:
        raise InvalidArgument(field, "is empty; only a finished candidate's may be")
    _between_bytes(field, (candidate.text,), 0, limits.candidate_bytes)


def _check_context(context: Context, limits: Limits) -> None:
    if isinstance(context.prompt, str):
        _between_bytes("context.raw_prompt", (context.prompt,), 1, limits.prompt_bytes)
    else:
        _check_conversation(context.prompt, limits)
    committed = context.committed
    field = "context.committed_segments"
    between(field, len(committed), 0, MAX_COMMITTED_SEGMENTS, "segments")
    _between_bytes(field, committed, 0, limits.committed_bytes)
    _between_bytes("context.session_id", (context.session_id,), 0, MAX_SESSION_ID_BYTES)


def _check_conversation(messages: tuple[Message, ...], limits: Limits) -> None:
    field = "context.conversation.messages"
    _between_bytes(field, (message.content for message in messages), 0, limits.prompt_bytes)
    check_turns(field, [(message.role.value, message.content) for message in messages])


def _between_bytes(field: str, texts: Iterable[str], low: int, high: int) -> None:
    between(field, sum(utf8_bytes(field, text) for text in texts), low, high, "bytes")
