"""What rows of token log-probabilities say about a candidate."""

from __future__ import annotations

import math
from collections.abc import Sequence

from model_service.core.types import Disagreement, Evidence, Score

_ROUNDING = 1e-3
"""A log-probability this far above 0 is rounding; further, it never came from a softmax."""

_FURTHER_PLACES = 3
"""How many places of a candidate are told beside the one that is most regretted: of a segment, it
is seldom more than a word or two that a model would have written otherwise."""


class NotAProbability(ValueError):
    """A number that a model gave as a log-probability is not one."""


def score_of(logprobs: Sequence[float], text: str, evidence: Evidence | None = None) -> Score:
    """The score of `text`, given the natural log-probability of each of its tokens.

    Args:
        logprobs: one per token, in order, the end token of a finished candidate last; at least one.
        text: the candidate's text, without any rendering of the end token.
        evidence: `evidence_of` the same tokens, if it is known.

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
        evidence=evidence,
    )


def evidence_of(
    logprobs: Sequence[float],
    best: Sequence[float],
    offsets: Sequence[int],
    entropy: float | None = None,
) -> Evidence:
    """Where the model disagrees with a candidate.

    Args:
        logprobs: as for `score_of`.
        best: the log-probability of the most probable token in each token's place.
        offsets: the byte of the candidate's text at which each token begins.
        entropy: that of the model's distribution in the place that `most_regretted` names.

    Raises:
        NotAProbability: a logarithm, or the entropy, is NaN or has the wrong sign.
    """
    logprobs = tuple(map(_checked, logprobs))
    best = tuple(map(_checked, best))
    regrets = _regrets(logprobs, best)
    most, weakest = _first_largest(regrets), logprobs.index(min(logprobs))
    others = sorted(
        (place for place, regret in enumerate(regrets) if regret and place != most),
        key=lambda place: -regrets[place],
    )
    told, untold = others[:_FURTHER_PLACES], others[_FURTHER_PLACES:]
    return Evidence(
        regret_sum=math.fsum(regrets),
        regret_max=regrets[most],
        regret_offset=offsets[most],
        entropy=None if entropy is None else -_checked(-entropy),
        weakest_logprob=logprobs[weakest],
        weakest_offset=offsets[weakest],
        further=tuple(Disagreement(offsets[at], regrets[at], best[at]) for at in told),
        untold=regrets[untold[0]] if untold else 0.0,
    )


def most_regretted(logprobs: Sequence[float], best: Sequence[float]) -> int:
    """Which of a candidate's tokens has the largest regret; of several, the first."""
    return _first_largest(_regrets(logprobs, best))


def _regrets(logprobs: Sequence[float], best: Sequence[float]) -> list[float]:
    """A token that is as probable as the best may be told a little above it: that is rounding."""
    return [
        most - logprob if logprob < most else 0.0
        for logprob, most in zip(logprobs, best, strict=True)
    ]


def _first_largest(numbers: Sequence[float]) -> int:
    return numbers.index(max(numbers))


def _checked(logprob: float) -> float:
    if math.isnan(logprob) or logprob > _ROUNDING:
        raise NotAProbability(f"{logprob} is not the logarithm of a probability")
    return min(logprob, 0.0)
