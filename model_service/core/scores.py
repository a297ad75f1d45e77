"""What a row of token log-probabilities says about a candidate."""

from __future__ import annotations

import math
from collections.abc import Sequence

from model_service.core.types import Score

_ROUNDING = 1e-3
"""A log-probability this far above 0 is rounding; further, it never came from a softmax."""


class NotAProbability(ValueError):
    """A number that a model gave as a log-probability is not one."""


def score_of(logprobs: Sequence[float], text: str) -> Score:
    """The score of `text`, given the natural log-probability of each of its tokens.

    Args:
        logprobs: one per token, in order, the end token of a finished candidate last; at least one.
        text: the candidate's text, without any rendering of the end token.

    Raises:
        NotAProbability: one of them is NaN or positive.
        ValueError: there are none.
    """
    if not logprobs:
        raise ValueError("a candidate of no tokens has no score")
    logprobs = tuple(_checked(logprob) for logprob in logprobs)
    return Score(
        logprob_sum=math.fsum(logprobs),
        probability_mean=math.fsum(map(math.exp, logprobs)) / len(logprobs),
        token_count=len(logprobs),
        byte_count=len(text.encode()),
        token_logprobs=logprobs,
    )


def _checked(logprob: float) -> float:
    if math.isnan(logprob) or logprob > _ROUNDING:
        raise NotAProbability(f"{logprob} is not the logarithm of a probability")
    return min(logprob, 0.0)
