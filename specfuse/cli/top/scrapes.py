"""What a metrics endpoint said at one moment. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Final, TypeAlias

from prometheus_client.parser import text_string_to_metric_families

from specfuse.cli.top.targets import Kind, Target

Labels: TypeAlias = frozenset[tuple[str, str]]
Series: TypeAlias = Mapping[str, Mapping[Labels, float]]
"""Values by name and labels."""

STARTED: Final = "process_start_time_seconds"
"""When the service's process began: another value is another process."""

_OURS: Final = ("specfuse_", STARTED)
_SIGNS: Final[Mapping[str, Kind]] = {
    "specfuse_requests_in_flight": "fuser",
    "specfuse_model_requests_waiting": "model",
}
"""Series that are there from a service's start, and whose they are."""


class NotMetrics(Exception):
    """What answered is not the endpoint that was looked for. Says what it is, as far as known."""


@dataclass(frozen=True, slots=True)
class Scrape:
    """The values of our series, and when they were read, in seconds of any steady clock."""

    at: float
    series: Series

    @property
    def models(self) -> tuple[str, ...]:
        """The models whose service this is: one, or none if it is a fuser's."""
        found = self.series.get("specfuse_model_requests_waiting", {})
        return tuple(value for labels in found for name, value in labels if name == "model_name")


def read(text: str, at: float) -> Scrape:
    """The scrape that the text of an endpoint is. Series of others are passed over.

    Raises:
        NotMetrics: it is not in Prometheus' text format.
    """
    ours = "\n".join(line for line in text.split("\n") if line.startswith(_OURS))
    series: dict[str, dict[Labels, float]] = {}
    try:
        for family in text_string_to_metric_families(ours):
            for sample in family.samples:
                if isfinite(sample.value):
                    labels = frozenset((name, _plain(one)) for name, one in sample.labels.items())
                    series.setdefault(sample.name, {})[labels] = float(sample.value)
    except (ValueError, LookupError, OverflowError) as error:
        raise NotMetrics("what it says is not in Prometheus' text format") from error
    return Scrape(at, series)


def check(target: Target, scrape: Scrape) -> None:
    """Checks that a scrape is of what the target is said to be.

    Raises:
        NotMetrics: it is of something else.
    """
    kinds = {kind for sign, kind in _SIGNS.items() if scrape.series.get(sign)}
    if not kinds:
        raise NotMetrics("what it says is not of SpecFuse")
    if target.kind not in kinds:
        (other,) = kinds
        raise NotMetrics(f"that is a {other}'s; give it with --{other}")
    if target.name and target.name not in scrape.models:
        raise NotMetrics(f"that is the model {', '.join(scrape.models)}, not {target.name}")


def _plain(text: str) -> str:
    """The text without what a terminal would obey."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)
