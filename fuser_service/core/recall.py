"""Recall: whether the members that left should come back for a round before it is committed.

Exit alone loses the expert that the next part of an answer needs. What gives it away is that those
who stayed are much less sure of their best candidate than they were of the answer so far.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fuser_service.core.rules import ExitKind, Statistic
from fuser_service.core.statistics import log_statistic

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fuser_service.core.rules import ExitRules
    from fuser_service.core.types import Score


def recalls(rules: ExitRules) -> bool:
    """Whether members that left may come back."""
    return rules.recall and rules.kind is not ExitKind.NONE


def confidence(scores: Iterable[Score]) -> float | None:
    """The best `geometric` statistic among the scores of one candidate, in [0, 1]; None if none."""
    logs = [log_statistic(score, Statistic.GEOMETRIC) for score in scores]
    return math.exp(max(logs)) if logs else None


def falters(now: float | None, earlier: Sequence[float], ratio: float) -> bool:
    """Whether confidence fell below `ratio` of the mean of the query's earlier rounds.

    Relative, because absolute confidence differs between models and temperatures. Rounds whose
    confidence nobody established are not among `earlier`; without any there is nothing to compare.
    """
    if now is None or not earlier:
        return False
    return now < ratio * math.fsum(earlier) / len(earlier)
