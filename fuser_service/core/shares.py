"""Shares: how much of its approval a verifier gives each candidate, and what all give together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from fuser_service.core.rules import SelfJudgement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fuser_service.core.candidates import DistinctCandidate
    from fuser_service.core.types import MemberName
    from fuser_service.core.weights import Weights

Shares = tuple[float, ...]
"""A share per candidate, in the candidates' order: in [0, 1] each, 1 together."""

Judgements = Mapping["MemberName", Shares]
"""Each verifier's own shares, in the ensemble's order."""


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
    equal weight dropping elects whom including elects: what each gives the other is 1 minus what
    it gives itself.
    """
    approvals = []
    for index, candidate in enumerate(candidates):
        judges = _judges(candidate, judgements, self_judgement)
        approvals.append(
            math.fsum(
                weight * judgements[judge][index] for judge, weight in weights.among(judges).items()
            )
        )
    return _summing_to_one(approvals)


def _judges(
    candidate: DistinctCandidate, judgements: Judgements, self_judgement: SelfJudgement
) -> tuple[MemberName, ...]:
    everyone = tuple(judgements)
    if self_judgement is SelfJudgement.INCLUDE:
        return everyone
    return tuple(judge for judge in everyone if judge not in candidate.proposers) or everyone


def _summing_to_one(values: Sequence[float]) -> Shares:
    # fsum rounds once, at the end: the order of the summands, which is that of the members, must
    # not decide a close race.
    total = math.fsum(values)
    return tuple(value / total for value in values) if total > 0 else _uniform(len(values))


def _uniform(count: int) -> Shares:
    return (1 / count,) * count
