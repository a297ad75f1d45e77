"""What queries ask of our series, against the labels and values that the services export."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, get_args

from deploy.monitoring import series
from fuser_service.reports import RequestOutcome

_SELECTOR: Final = re.compile(r"(\w+)\{([^}]*)\}")
_MATCHER: Final = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')
_OF_PROMETHEUS: Final = {"namespace", "app_kubernetes_io_instance", "pod", "instance", "le"}
"""Labels that Prometheus gives, or a histogram has."""

_SEEN_LATER: Final = {"specfuse_team_requests": set(get_args(RequestOutcome))}
"""Outcomes that a metric does not have from its service's start on."""

_METRICS: Final = {
    name: metric
    for metric in (*series.fuser(), *series.model(), *series.both())
    for name in metric.series
}


def nowhere(expr: str) -> Iterator[str]:
    """The labels that a query asks for and its series have not, and values that none ever has."""
    for name, matchers in _SELECTOR.findall(expr):
        if metric := _METRICS.get(name):
            for label, values in _MATCHER.findall(matchers):
                yield from _missing(metric, label, values)


def _missing(metric: series.Metric, label: str, values: str) -> Iterator[str]:
    if label not in {*metric.labels, *_OF_PROMETHEUS}:
        yield f"{metric.name} has no label {label}"
    if from_the_start := metric.values.get(label):
        known = {*from_the_start, *_SEEN_LATER.get(metric.name, ())}
        wrong = [value for value in values.split("|") if value not in known]
        yield from (f"{metric.name} never has {label}={value}" for value in wrong)
