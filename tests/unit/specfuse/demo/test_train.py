"""`python -m specfuse.demo.train` from end to end, with a plan of a few steps."""

from __future__ import annotations

from functools import partial

import pytest
import typer

pytest.importorskip("torch")

from specfuse.demo import train, training
from specfuse.demo.evaluation import Report, evaluate
from specfuse.demo.examples import Recipe
from specfuse.demo.experts import EXPERTS
from specfuse.demo.skills import SkillName
from specfuse.demo.training import Plan, Stage

BRIEFLY = Plan((Stage(2, Recipe((1, 1), short_share=0.8)), Stage(1, Recipe())))


def test_trains_saves_and_measures(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(training, "plan_for", lambda _skill: BRIEFLY)
    monkeypatch.setattr(train, "evaluate", partial(evaluate, count=2))
    monkeypatch.setenv("COLUMNS", "80")
    train.main(["sums"], out=tmp_path, threads=1)
    shown = capsys.readouterr().out
    assert "3/3 loss" in shown
    rows = [line.split() for line in shown.splitlines()]
    assert ["own", "skill", "0.000"] in rows
    assert ["sums", "held", "out", "0.000"] in rows
    assert [path.name for path in tmp_path.iterdir()] == ["sums"]  # nothing left behind
    assert {path.name for path in (tmp_path / "sums").iterdir()} == {
        path.name for path in (train.MODELS_DIRECTORY / "sums").iterdir()
    }


def test_all_experts_fit_into_a_terminal_of_80_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    form = dict.fromkeys(range(1, 6), 0.5)
    held_out = {SkillName.SUMS: 1.0}
    reports = [
        Report(1.0, held_out.get(expert.skill), form, form, dict.fromkeys(SkillName, 0.99))
        for expert in EXPERTS
    ]
    train.Console().print(train.report_table(EXPERTS, reports))
    shown = capsys.readouterr().out
    assert "…" not in shown
    assert "repeating, parts: 5  " in shown
    assert all(expert.name in shown for expert in EXPERTS)


def test_an_expert_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(typer.BadParameter, match="no expert is called 'poetry'"):
        train.main(["poetry"], out=tmp_path)
