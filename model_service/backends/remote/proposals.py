"""Generated tokens as a proposal."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from model_service.backends.remote.server import Generated
from model_service.backends.text.offsets import Offsets
from model_service.backends.text.segments import Ending, SegmentDraft
from model_service.backends.text.tokenizer import SegmentTokenizer
from model_service.core.scores import NotAProbability, evidence_of, score_of
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
        own_score=_own_score(request, tokenizer, generated, ending),
    )


def _ending(draft: SegmentDraft, generated: Generated) -> Ending:
    for token in generated.ids:
        ending = draft.take(token)
        if ending is not None:
            return ending
    return draft.end() if generated.ended else draft.cut()


def _own_score(
    request: ProposeRequest, tokenizer: SegmentTokenizer, generated: Generated, ending: Ending
) -> Score | None:
    """What scoring the segment would say, if its tokens are those that were generated."""
    candidate = Candidate(ending.segment.text, ending.finish is SegmentFinish.END)
    ids = ending.segment.ids + (tokenizer.end_ids[:1] if candidate.finished else ())
    if generated.logprobs is None or not generated.scores(candidate, ids):
        return None
    best = None if generated.best is None else generated.best[: len(ids)]
    return judged_score(
        generated.logprobs[: len(ids)],
        best,
        candidate.text,
        partial(tokenizer.offsets, candidate, request.context),
    )


def judged_score(
    logprobs: tuple[float, ...],
    best: tuple[float, ...] | None,
    text: str,
    offsets: Callable[[], Offsets],
) -> Score:
    """The score of a text, with evidence if the most probable tokens are known, too.

    Raises:
        ModelFailure: the numbers are no probabilities.
    """
    try:
        evidence = None if best is None else evidence_of(logprobs, best, offsets())
        return score_of(logprobs, text, evidence)
    except NotAProbability as error:
        raise ModelFailure(str(error)) from error
