"""Ratios of what is measured side by side."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median


def median_ratio(of: Iterable[float], to: Iterable[float]) -> float:
    """The median of the ratios within each repeat, as a machine's pace changes between repeats.

    That is not the ratio of the medians.
    """
    return median(one / other for one, other in zip(of, to, strict=True))
