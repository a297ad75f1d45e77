"""Shares: how much of its approval a verifier gives each candidate, and what all give together.

A verifier's opinion of a candidate is a statistic of its tokens' probabilities. All statistics are
probabilities themselves, kept as natural logarithms: the likeliest of a hundred unlikely candidates
must not underflow to the same 0 as the others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from fuser_service.core.candidates import DistinctCandidate
from fuser_service.core.rules import SelfJudgement, Statistic
from fuser_service.core.types import Judgements, MemberName, Score, Shares
from fuser_service.core.weights import Weights


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


def normalised(log_statistics: Sequence[float]) -> Shares:
    """One verifier's shares: its statistics over their sum; uniform if all are 0.

    Exact in the logarithm: only differences of the inputs matter, however small the statistics are.
    """
    largest = max(log_statistics)
    if largest == -math.inf:
        return _uniform(len(log_statistics))
    return _summing_to_one([math.exp(value - largest) for value in log_statistics])


def fused(
    candidates: Sequence[DistinctCandidate],
    judgements: Judgements,
    weights: Weights,
    self_judgement: SelfJudgement,
) -> Shares:
    """What the verifiers' shares come to: sum_j w_j share_j(c), the weights summing to 1.

    There is at least one verifier. With self-judgement dropped, a verifier's share for its own
    candidate stays the yardstick by which it measures the others but does not count: a candidate
    gets the weighted mean of its other verifiers' shares, and these means are normalised. A
    candidate that nobody else judged keeps its own proposers' judgement. Between two models of
    equal weight, dropping and including elect the same winner: what each gives the other is 1 minus
    what it gives itself.
    """
    approvals = []
    among: dict[tuple[MemberName, ...], dict[MemberName, float]] = {}  # most often of all alike
    for index, candidate in enumerate(candidates):
        verifiers = _verifiers(candidate, judgements, self_judgement)
        if verifiers not in among:
            among[verifiers] = weights.among(verifiers)
        approvals.append(
            math.fsum(
                weight * judgements[verifier][index]
                for verifier, weight in among[verifiers].items()
            )
        )
    return _summing_to_one(approvals)


def pooled(
    logprobs: Mapping[MemberName, Sequence[float]],
    weights: Weights,
    sharpness: float,
    leads: Sequence[float],
) -> Shares:
    """What the verifiers' probabilities of the candidates come to: l_c sum_j w_j d_j p_j(c).

    Scaled to sum to 1. `leads` has, for each candidate, the logarithm of what it leads to, l_c.

    A verifier's say d_j is the `sharpness`-th power of the largest probability that it gives any
    candidate: one that knows has all of it, one that guesses among many words little.
    """
    among = weights.logs_among(tuple(logprobs))
    says = {
        verifier: among[verifier] + (sharpness * max(given) if sharpness else 0.0)
        for verifier, given in logprobs.items()
    }
    return normalised(
        [
            lead + _log_sum([says[v] + given[index] for v, given in logprobs.items()])
            for index, lead in enumerate(leads)
        ]
    )


def _log_sum(logs: Sequence[float]) -> float:
    """The logarithm of the sum of what these are the logarithms of."""
    largest = max(logs)
    if largest == -math.inf:
        return largest
    return largest + math.log(math.fsum(math.exp(log - largest) for log in logs))


def _verifiers(
    candidate: DistinctCandidate, judgements: Judgements, self_judgement: SelfJudgement
) -> tuple[MemberName, ...]:
    everyone = tuple(judgements)
    if self_judgement is SelfJudgement.INCLUDE:
        return everyone
    return tuple(one for one in everyone if one not in candidate.proposers) or everyone


def _summing_to_one(values: Sequence[float]) -> Shares:
    # fsum rounds once, at the end: the order of the summands, which is that of the members, must
    # not decide a close race.
    total = math.fsum(values)
    return tuple(value / total for value in values) if total > 0 else _uniform(len(values))


def _uniform(count: int) -> Shares:
    return (1 / count,) * count
