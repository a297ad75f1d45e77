"""The settings of scripted meshes are those that services take."""

from __future__ import annotations

import yaml

import fuser_service.settings.settings as fuser
import model_service.settings as model
from bench.fuser import ENSEMBLE, Shape
from bench.scripted import fuser_settings, model_settings
from fuser_service.core.rules import ExitKind, Vote

SHAPE = Shape(members=3, rounds=5)


def test_a_fuser_asks_all_for_everything() -> None:
    addresses = [["a:1", "a:2"], ["b:1"], ["c:1"]]
    settings = fuser.Settings.parse(
        yaml.safe_dump(fuser_settings(SHAPE, addresses)), source="a test"
    )
    ensemble = settings.ensembles[ENSEMBLE]
    assert ensemble.members == ("model0", "model1", "model2")
    assert (ensemble.vote, ensemble.exit_policy) == (Vote.SEGMENTS, ExitKind.NONE)
    endpoints = settings.members["model0"].endpoints
    assert endpoints is not None
    assert len(endpoints) == 2


def test_lines_are_laid_over_the_answer() -> None:
    lines = {"when": "x", "hangs": True}, {}
    written = yaml.safe_dump(model_settings(SHAPE, 1, lines, places=7))
    settings = model.Settings.parse(written, source="a test")
    assert (settings.name, settings.limits.running_calls) == ("model1", 7)
    assert settings.scripted is not None
    hanging, usual = settings.scripted.lines
    assert (hanging.when, hanging.hangs, usual.hangs) == ("x", True, False)
    assert usual.answer == hanging.answer == SHAPE.answer_of(1)
