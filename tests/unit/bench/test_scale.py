"""The bench of growth: what it starts, and what it makes of outcomes."""

from __future__ import annotations

import pytest
import yaml

import model_service.settings as model
from bench.fuser import WORDS_A_SEGMENT, Shape
from bench.open_loop import Outcome
from bench.scale import ROUND_SECONDS, Mesh, load_of, replica_settings

MESH = Mesh(Shape(members=3, rounds=5), places=32, cores=0.2)
BUSY = dict.fromkeys(
    ("fuser_busy", "machine_busy", "others_busy", "callers_busy", "member_wait", "again"), 0.5
)


def test_replicas_take_their_settings() -> None:
    settings = model.Settings.parse(yaml.safe_dump(replica_settings(MESH, 2)), source="a test")
    assert (settings.name, settings.limits.running_calls) == ("model2", MESH.places)
    assert settings.scripted is not None
    (line,) = settings.scripted.lines
    drafting = line.seconds + WORDS_A_SEGMENT * line.token_seconds
    assert drafting + line.seconds == pytest.approx(ROUND_SECONDS)


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
