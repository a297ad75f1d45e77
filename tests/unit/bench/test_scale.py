"""The bench of growth: what it starts, and what it makes of outcomes."""

from __future__ import annotations

import pytest
import yaml

import fuser_service.settings.settings as fuser
import model_service.settings as model
from bench.fuser import ENSEMBLE, Shape
from bench.open_loop import Outcome
from bench.scale import Mesh, fuser_settings, load_of, model_settings
from bench.services import Service
from specfuse.localmesh import ServiceAddresses

MESH = Mesh(Shape(members=3, rounds=5), places=32, cores=0.2)
BUSY = dict.fromkeys(
    ("fuser_busy", "machine_busy", "others_busy", "callers_busy", "member_wait", "again"), 0.5
)


def test_the_services_take_their_settings() -> None:
    settings = yaml.safe_dump(model_settings(MESH, 2))
    read = model.Settings.parse(settings, source="a test")
    assert (read.name, read.limits.running_calls) == ("model2", MESH.places)
    replicas = [
        [Service(ServiceAddresses(f"127.0.0.1:{10 * member + one}", ""), 1) for one in (1, 2)]
        for member in range(3)
    ]
    read_fuser = fuser.Settings.parse(
        yaml.safe_dump(fuser_settings(MESH, replicas)), source="a test"
    )
    assert read_fuser.ensembles[ENSEMBLE].members == ("model0", "model1", "model2")
    endpoints = read_fuser.members["model2"].endpoints
    assert endpoints is not None
    assert len(endpoints) == 2


def test_only_what_happened_in_the_time_that_counts() -> None:
    outcomes = [
        Outcome(due=0.5, first=0.7, end=1.5),  # due before, ended within
        Outcome(due=1.0, first=1.2, end=2.0),
        Outcome(due=2.0, first=2.4, end=4.0),  # ended after
        Outcome(due=2.5, first=2.6, end=2.6, error="Unavailable"),
        Outcome(due=3.0, first=3.1, end=3.2),  # due after
    ]
    load = load_of(outcomes, (1.0, 3.0), BUSY)
    assert load.offered == pytest.approx(1.5)
    assert load.answered == pytest.approx(1.0)
    assert load.failed == 1
    assert load.answer_p50 == pytest.approx(1.0)
    assert load.answer_p99 == pytest.approx(2.0)
    assert load.first_p99 == pytest.approx(0.4)
    assert load.again == 0.5
