"""What the services export, as their own registries have it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final, Literal

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

from fuser_service.metrics import FuserMetrics
from model_service.metrics import ModelMetrics
from specfuse.serving.certificate import Certificates
from specfuse.serving.files import FollowedFiles
from specfuse.serving.tracing import spans_lost

Kind = Literal["counter", "gauge", "histogram"]

_ANY: Final = "*"
"""Stands for whatever the settings name."""

_UNITS: Final = {
    "timestamp_seconds": "seconds since 1970",
    "seconds": "seconds",
    "tokens": "tokens",
    "ratio": "0 to 1",
}
"""What a name ends with, and the unit that this means. Everything else counts things."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric as it is exported. `values` are those of each label that are known in advance."""

    name: str
    """Without what its kind appends."""
    kind: Kind
    meaning: str
    labels: tuple[str, ...]
    values: dict[str, tuple[str, ...]]

    @property
    def series(self) -> tuple[str, ...]:
        """The names by which queries find it."""
        endings = {
            "counter": ("_total",),
            "gauge": ("",),
            "histogram": ("_bucket", "_sum", "_count"),
        }
        return tuple(f"{self.name}{ending}" for ending in endings[self.kind])

    @property
    def unit(self) -> str:
        """The unit of its values; empty if they count things."""
        return next((unit for end, unit in _UNITS.items() if self.name.endswith(f"_{end}")), "")


def fuser() -> tuple[Metric, ...]:
    """Those of a fuser service."""
    registry = _Listing()
    FuserMetrics(registry, members=[_ANY], ensembles={_ANY: [_ANY]}, teams=[_ANY])
    return tuple(registry.metrics())


def model() -> tuple[Metric, ...]:
    """Those of a model service."""
    registry = _Listing()
    ModelMetrics(_ANY, registry)
    return tuple(registry.metrics())


def both() -> tuple[Metric, ...]:
    """Those of both services."""
    registry = _Listing()
    Certificates(FollowedFiles(), registry, AsyncExitStack())
    spans_lost(registry)
    return tuple(registry.metrics())


def names() -> frozenset[str]:
    """All names by which queries find something of ours."""
    every = (*fuser(), *model(), *both())
    return frozenset(name for metric in every for name in metric.series)


class _Listing(CollectorRegistry):
    """A registry that remembers who registered, in their order."""

    def __init__(self) -> None:
        super().__init__()
        self._listed: list[MetricWrapperBase] = []

    def register(self, collector: Collector) -> None:
        super().register(collector)
        if isinstance(collector, MetricWrapperBase):
            self._listed.append(collector)

    def metrics(self) -> Iterator[Metric]:
        for wrapper in self._listed:
            (family,) = wrapper.collect()
            labels = tuple(wrapper._labelnames)  # noqa: SLF001 (nothing public says them)
            found = {
                label: dict.fromkeys(sample.labels.get(label, _ANY) for sample in family.samples)
                for label in labels
            }
            known = {label: tuple(values) for label, values in found.items() if _ANY not in values}
            values = {label: said for label, said in known.items() if said}
            yield Metric(family.name, _kind(family.type), family.documentation, labels, values)


def _kind(said: str) -> Kind:
    kinds: dict[str, Kind] = {"counter": "counter", "gauge": "gauge", "histogram": "histogram"}
    return kinds[said]
