"""Generated tokens as a proposal."""

from __future__ import annotations

from model_service.backends.remote.server import Generated
from model_service.backends.text.segments import Ending, SegmentDraft
from model_service.backends.text.tokenizer import SegmentTokenizer
from model_service.core.scores import NotAProbability, score_of
from model_service.core.types import (
    Candidate,
    Proposal,
    ProposeRequest,
    Score,
    SegmentFinish,
    Usage,
)
from specfuse.errors import ModelFailure


def proposal_of(
    request: ProposeRequest, tokenizer: SegmentTokenizer, generated: Generated, usage: Usage
) -> Proposal:
    """The segment that generated tokens make.

    Where it ends is decided here, by the tokens: servers say `length` of an end token that is the
    last one allowed, and each looks for stop strings in its own way.

    Raises:
        ModelFailure: its numbers are no probabilities.
    """
    ending = _ending(SegmentDraft(tokenizer, request), generated)
    segment = ending.segment
    return Proposal(
        text=segment.text,
        finish=ending.finish,
        token_count=len(segment.ids),
        usage=usage,
        own_score=_own_score(ending, generated, tokenizer.end_ids[0]),
    )


def _ending(draft: SegmentDraft, generated: Generated) -> Ending:
    for token in generated.ids:
        ending = draft.take(token)
        if ending is not None:
            return ending
    return draft.end() if generated.ended else draft.cut()


def _own_score(ending: Ending, generated: Generated, end: int) -> Score | None:
    """What scoring the segment would say, if its tokens are those that were generated."""
    candidate = Candidate(ending.segment.text, ending.finish is SegmentFinish.END)
    ids = ending.segment.ids + ((end,) if candidate.finished else ())
    if generated.logprobs is None or not generated.scores(candidate, ids):
        return None
    try:
        return score_of(generated.logprobs[: len(ids)], ending.segment.text)
    except NotAProbability as error:
        raise ModelFailure(str(error)) from error
