"""A member learns what it is to believe."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch

from specfuse.families.examples import Recipe
from specfuse.families.measuring import measure
from specfuse.families.training import Plan, Trainer
from tests.support.families import of_one, pair

pytestmark = pytest.mark.timeout(600)  # models are built and trained


@pytest.fixture(autouse=True)
def one_thread():
    """Small matrices are multiplied fastest by one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_the_learning_rate_warms_up_and_cools_down():
    plan = Plan()
    rates = [plan.learning_rate_at(step) for step in range(1, plan.steps + 1)]
    assert max(rates) == pytest.approx(plan.learning_rate, rel=0.05)
    assert rates[0] < max(rates) / 10
    assert rates[-1] == pytest.approx(max(rates) * 0.02, rel=0.1)


def test_a_loss_falls_and_the_same_seed_learns_the_same():
    family = of_one(pair(), sure=True)
    plan = Plan(((8, Recipe((1, 1))),), warmup_steps=1, corpus=100)
    runs = [
        [now.loss for now in Trainer(family, family.members[0], plan).run(report_every=2)]
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
    assert runs[0][-1] < runs[0][0]


def test_what_a_member_that_has_learnt_nothing_is_measured_to_do():
    family = pair()
    trainer = Trainer(family, family.members[1], Plan(((1, Recipe((1, 1))),), corpus=100))
    measured = measure(family, family.members[1], trainer.model, trainer.tokenizer, count=8)
    assert measured.own == measured.form == 0.0
    assert measured.declines < 0.01
    assert measured.hunch < 0.1 < measured.hunch_said
