"""What services did between two scrapes: increases, rates, distributions. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Final

from specfuse.cli.top.scrapes import STARTED, Scrape, Series

_GROWING: Final = ("_total", "_count", "_sum", "_bucket")
"""How the names of series end that only grow while their process lives."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """A histogram's observations.

    `up_to` has for each bucket's upper edge how many were not above it; the last edge is infinite.
    """

    up_to: Mapping[float, float] = field(default_factory=dict)
    total: float = 0.0

    @property
    def count(self) -> float:
        """How many there were."""
        return self.up_to.get(inf, 0.0)

    @property
    def mean(self) -> float | None:
        """None if there were none."""
        return self.total / self.count if self.count else None

    def quantile(self, part: float) -> float | None:
        """Where `part` of them, 0 to 1, is below, as Prometheus estimates it: even in each bucket.

        None if there were none. Beyond the last finite edge it is that edge.
        """
        if not self.count:
            return None
        rank = part * self.count
        edge, below = 0.0, 0.0
        for upper in sorted(self.up_to):
            up_to = max(below, self.up_to[upper])  # a scrape may fall between two of them
            if upper == inf:
                break
            if up_to >= rank and up_to > below:
                return edge + (upper - edge) * max(0.0, rank - below) / (up_to - below)
            edge, below = upper, up_to
        return edge


def together(distributions: Sequence[Distribution]) -> Distribution:
    """All observations, by the edges that all have: replicas of several versions may differ."""
    some = [one for one in distributions if one.up_to]
    if not some:
        return Distribution()
    edges = frozenset.intersection(*(frozenset(one.up_to) for one in some))
    up_to = {edge: sum(one.up_to[edge] for one in some) for edge in edges}
    return Distribution(up_to, sum(one.total for one in some))


@dataclass(frozen=True, slots=True)
class Interval:
    """One service in an interval of some `seconds`: by how much its series grew, and their values.

    What belongs to a series that only grows is in `increases`, all of the end in `values`.
    """

    seconds: float
    increases: Series
    values: Series

    def distribution(self, name: str, **labels: str) -> Distribution:
        """The observations within the interval that have these labels."""
        up_to: Counter[float] = Counter()
        for found, value in _having(self.increases, f"{name}_bucket", labels):
            up_to[float(found["le"])] += value  # type: ignore[assignment]
        total = sum(value for _, value in _having(self.increases, f"{name}_sum", labels))
        return Distribution(up_to, total)


def between(before: Scrape, after: Scrape) -> Interval:
    """What one service did. If it was restarted, that is what it did since.

    A series that was not there before began at 0.
    """
    known: Series = {} if _restarted(before.series, after.series) else before.series
    increases = {
        name: {
            labels: max(0.0, value - known.get(name, {}).get(labels, 0.0))
            for labels, value in values.items()
        }
        for name, values in after.series.items()
        if name.endswith(_GROWING)
    }
    return Interval(after.at - before.at, increases, after.series)


def _restarted(before: Series, after: Series) -> bool:
    """Whether it is another process: by its start, or as something shrank that can only grow."""
    if before.get(STARTED) != after.get(STARTED):
        return True
    return any(
        after.get(name, {}).get(labels, value) < value
        for name, values in before.items()
        if name.endswith(_GROWING)
        for labels, value in values.items()
    )


@dataclass(frozen=True, slots=True)
class Whole:
    """Several services of a kind. Each tells its own part, so numbers are sums over all."""

    parts: Sequence[Interval]

    def increase(self, name: str, **labels: str) -> float:
        """By how much the series with these labels grew."""
        return sum(
            value for part in self.parts for _, value in _having(part.increases, name, labels)
        )

    def rate(self, name: str, **labels: str) -> float:
        """The same, a second."""
        return sum(
            value / part.seconds
            for part in self.parts
            for _, value in _having(part.increases, name, labels)
        )

    def gauges(self, name: str, **labels: str) -> list[float]:
        """The values at the end."""
        return [value for part in self.parts for _, value in _having(part.values, name, labels)]

    def distribution(self, name: str, **labels: str) -> Distribution:
        """The observations of all."""
        return together([part.distribution(name, **labels) for part in self.parts])

    def named(self, label: str, *series: str) -> tuple[str, ...]:
        """The values that a label has in any of these series, in order of first appearance."""
        found = (
            labels[label]
            for part in self.parts
            for name in series
            for labels, _ in _having(part.values, name, {})
            if label in labels
        )
        return tuple(dict.fromkeys(found))


def _having(
    series: Series, name: str, wanted: Mapping[str, str]
) -> Iterator[tuple[Mapping[str, str], float]]:
    """The series of a name that have the wanted labels, among others."""
    for labels, value in series.get(name, {}).items():
        if wanted.items() <= labels:
            yield dict(labels), value
