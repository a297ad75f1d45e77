"""The number that stands for a verifier's opinion of a candidate.

All three statistics are probabilities, kept as their natural logarithms: the likeliest of a hundred
unlikely candidates must not underflow to the same 0 as the others.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fuser_service.core.rules import Statistic

if TYPE_CHECKING:
    from fuser_service.core.types import Score

ROUNDING = 1e-3
"""How far above 1 half-precision arithmetic may put a probability."""


def log_statistic(score: Score, statistic: Statistic) -> float:
    """The natural logarithm of a score's statistic: a finite number of nats, or minus infinity.

    `geometric` is the tokens' geometric mean probability, 1 / perplexity; `mean_probability` their
    arithmetic mean; `per_byte` the geometric mean over the text's UTF-8 bytes. An empty finished
    candidate has no bytes; its end token counts as one.
    """
    match statistic:
        case Statistic.GEOMETRIC:
            return score.logprob_sum / score.token_count
        case Statistic.MEAN_PROBABILITY:
            return math.log(score.probability_mean) if score.probability_mean > 0 else -math.inf
        case Statistic.PER_BYTE:
            return score.logprob_sum / max(score.byte_count, 1)


def problem_with(score: Score) -> str | None:
    """Why these numbers cannot be a candidate's score; None if they can."""
    if score.token_count < 1:
        return f"token_count is {score.token_count}, must be at least 1"
    if score.byte_count < 0:
        return f"byte_count is {score.byte_count}, must be at least 0"
    if not score.logprob_sum <= ROUNDING * score.token_count:  # also catches NaN
        return f"logprob_sum is {score.logprob_sum}, must be at most 0"
    if not 0.0 <= score.probability_mean <= 1.0 + ROUNDING:
        return f"probability_mean is {score.probability_mean}, must be in [0, 1]"
    return None
