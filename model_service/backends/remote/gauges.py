"""A server's own metrics, in Prometheus' text format."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from specfuse.errors import ModelFailure

_MOST_BYTES: Final = 1 << 22


def gauges(exposition: bytes) -> Mapping[str, float]:
    """The value of each gauge by its name, summed over its labels. None that is NaN or infinite.

    Raises:
        ModelFailure: it is not in that format.
    """
    totals: dict[str, float] = {}
    try:
        for family in text_string_to_metric_families(exposition[:_MOST_BYTES].decode()):
            if family.type == "gauge":
                totals[family.name] = sum(sample.value for sample in family.samples)
    except ValueError as error:
        raise ModelFailure("the server's metrics are not in Prometheus' format") from error
    return {name: total for name, total in totals.items() if math.isfinite(total)}
