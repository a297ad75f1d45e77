"""Families are made member by member, and go on where they were stopped."""

from __future__ import annotations

from functools import partial

import pytest
import yaml

pytest.importorskip("torch")

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from specfuse.errors import Misconfigured
from specfuse.families import making
from specfuse.families.directory import DESCRIPTION, MESH, MODELS, described
from specfuse.families.examples import Recipe
from specfuse.families.invention import invent
from specfuse.families.making import make
from specfuse.families.measuring import measure
from specfuse.families.training import Plan
from tests.support.families import pair

PAIR = pair()
pytestmark = pytest.mark.timeout(600)  # models are built, trained and loaded
BRIEFLY = Plan(((2, Recipe((1, 1))), (1, Recipe())), corpus=100)


@pytest.fixture(autouse=True)
def briefly(monkeypatch):
    """Little is measured, and by one thread: small matrices are multiplied fastest by one."""
    monkeypatch.setattr(making, "measure", partial(measure, count=2))
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Watching:
    def __init__(self) -> None:
        self.seen: list[tuple[str, int, float | None]] = []

    def __call__(self, member, *, step, loss) -> None:
        self.seen.append((member.name, step, loss))


class Stopped(Exception):
    """Somebody stopped the making."""


def test_made_it_is_a_mesh_of_models_that_load(tmp_path):
    watching = Watching()
    measured = make(PAIR, tmp_path, BRIEFLY, watching)
    names = [member.name for member in PAIR.members]
    assert [*measured] == names
    assert described(tmp_path) == PAIR
    mesh = yaml.safe_load((tmp_path / MESH).read_text())
    assert [*mesh["models"]] == mesh["fuser"]["ensembles"]["family"]["members"] == names
    for member in PAIR.members:
        directory = tmp_path / mesh["models"][member.name]["torch"]["model"]
        model = AutoModelForCausalLM.from_pretrained(directory)
        assert model.config.hidden_size == member.width
        assert len(AutoTokenizer.from_pretrained(directory)) == model.config.vocab_size
    assert [(name, step) for name, step, loss in watching.seen if loss is None] == [
        (name, BRIEFLY.steps) for name in names
    ]


def test_stopped_it_keeps_what_is_whole_and_goes_on(tmp_path):
    first, second = (member.name for member in PAIR.members)

    def stop_at_the_second(member, *, step, loss) -> None:
        if member.name == second:
            raise Stopped

    with pytest.raises(Stopped):
        make(PAIR, tmp_path, BRIEFLY, stop_at_the_second)
    assert [path.name for path in (tmp_path / MODELS).iterdir()] == [first]
    weights = (tmp_path / MODELS / first / "model.safetensors").read_bytes()
    watching = Watching()
    make(PAIR, tmp_path, BRIEFLY, watching)
    assert watching.seen[0] == (first, BRIEFLY.steps, None), "it was not trained again"
    assert (tmp_path / MODELS / first / "model.safetensors").read_bytes() == weights
    assert (tmp_path / MODELS / second).is_dir()


def test_another_family_is_not_overwritten(tmp_path):
    other = invent(9)
    (tmp_path / DESCRIPTION).write_bytes(other.to_json())
    with pytest.raises(Misconfigured, match=f"has {other.name}, not {PAIR.name}"):
        make(PAIR, tmp_path, BRIEFLY, Watching())
