"""Services' metrics without the services: the real ones' series, moved by a test."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from fuser_service.metrics import FuserMetrics
from fuser_service.service import EnsembleStatus
from model_service.metrics import ModelMetrics
from specfuse.cli.top.scrapes import STARTED, Scrape, read

ENSEMBLES = {"all": ("a", "b"), "few": ("a",)}


class PlayedFuser:
    """A fuser of the ensembles `all`, of a and b, and `few`, of a alone."""

    def __init__(self, started: float = 1.0) -> None:
        self.registry = _registry(started)
        self.metrics = FuserMetrics(
            self.registry, members=["a", "b"], ensembles=ENSEMBLES, teams=["search"]
        )

    def reaches(self, *members: str, wakes: bool = False) -> None:
        """It reaches just these members; the others are down, or asleep if it wakes them."""
        self.metrics.standing(
            [
                EnsembleStatus(name, of, tuple(one for one in of if one in members), 1, 9, wakes)
                for name, of in ENSEMBLES.items()
            ]
        )

    def scrape(self, at: float) -> Scrape:
        """What it says now."""
        return scrape_of(self.registry, at)


class PlayedModel:
    """A replica of the model a."""

    def __init__(self, started: float = 1.0) -> None:
        self.registry = _registry(started)
        self.metrics = ModelMetrics("a", self.registry)

    def scrape(self, at: float) -> Scrape:
        """What it says now."""
        return scrape_of(self.registry, at)


def scrape_of(registry: CollectorRegistry, at: float) -> Scrape:
    """What an endpoint of the registry says."""
    return read(generate_latest(registry).decode(), at)


def _registry(started: float) -> CollectorRegistry:
    registry = CollectorRegistry()
    Gauge(STARTED, "As of every process.", registry=registry).set(started)
    return registry
