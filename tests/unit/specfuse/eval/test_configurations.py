"""The presets, and the ensembles that an evaluation compares: files that a fuser accepts."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from fuser_service.core.rules import ExitKind, ExitRules, SelfJudgement, Statistic, Weighting
from fuser_service.settings.presets import Preset
from fuser_service.settings.settings import Ensemble, Settings
from specfuse.cli.mesh_file import MeshFile
from specfuse.cli.up import DEMO_MESH
from specfuse.demo.experts import EXPERTS
from specfuse.errors import Misconfigured
from specfuse.eval.configurations import DEFAULT, NO_EXIT, PRESETS, Configuration, ablations
from specfuse.eval.meshes import fingerprints, mesh_for

MEMBERS = ("a", "b")


def ensemble(**keys: Any) -> Ensemble:
    document = {
        "members": {name: {"endpoints": ["127.0.0.1:1"]} for name in MEMBERS},
        "ensembles": {"both": {"members": list(MEMBERS), **keys}},
    }
    return Settings.parse(yaml.safe_dump(document), source="fuser.yaml").ensembles["both"]


def test_the_default_preset_is_the_default() -> None:
    assert ensemble(preset="default").model_copy(update={"preset": None}) == ensemble().model_copy(
        update={"preset": None}
    )


def test_the_papers_settings() -> None:
    specfuse, specem = ensemble(preset="specfuse-paper"), ensemble(preset="specem-paper")
    for paper in (specfuse, specem):
        assert paper.statistic is Statistic.MEAN_PROBABILITY
        assert paper.self_judgement is SelfJudgement.INCLUDE
        assert paper.segment_tokens == 10
    assert specfuse.weighting is Weighting.UNIFORM
    assert (specfuse.exit.tau0, specfuse.exit.alpha, specfuse.exit.recall) == (0.05, 0.5, False)
    assert specem.weighting is Weighting.HEDGE
    assert specem.exit.policy is ExitKind.NONE
    assert (specem.sampling.temperature, specem.sampling.top_p) == (0.6, 0.9)


def test_what_the_ensemble_says_counts_before_its_preset() -> None:
    ours = ensemble(preset="specfuse-paper", segment_tokens=7, exit={"tau0": 0.5})
    assert (ours.segment_tokens, ours.exit.tau0) == (7, 0.5)
    assert ours.statistic is Statistic.MEAN_PROBABILITY
    assert ours.exit.recall is False


@pytest.mark.parametrize("preset", ["specfuse", 7, ["default"], None])
def test_a_preset_that_does_not_exist(preset: object) -> None:
    with pytest.raises(Misconfigured, match=r"ensembles\.both\.preset: .*must be 'default'"):
        ensemble(preset=preset)


@pytest.mark.parametrize("preset", Preset)
def test_a_preset_survives_its_own_file(preset: Preset) -> None:
    once = ensemble(preset=preset.value)
    written = once.model_dump(mode="json", exclude_unset=True, exclude={"members"})
    assert ensemble(**written) == once


def test_every_preset_says_where_its_values_come_from() -> None:
    assert {one.name for one in PRESETS} == {*(preset.value for preset in Preset), NO_EXIT.name}


def test_all_configurations_make_a_mesh_that_can_run() -> None:
    names = [expert.name for expert in EXPERTS]
    for configurations in (PRESETS, ablations()):
        mesh = MeshFile.model_validate(mesh_for(DEMO_MESH, configurations))
        assert [*mesh.models] == names
        ensembles = mesh.fuser.ensembles
        assert {*ensembles} == {*names, *(one.name for one in configurations)}
        for one in configurations:
            assert ensembles[one.name].members == tuple(names)
        assert all(ensembles[name].members == (name,) for name in names)


def test_ablations_have_names_of_their_own_and_all_differ() -> None:
    grid = ablations()
    assert len({one.name for one in grid}) == len(grid)
    assert DEFAULT in grid
    assert NO_EXIT in grid
    settled = [ensemble(**one.settings) for one in grid]
    same = [
        (one.name, other.name)
        for i, one in enumerate(grid)
        for j, other in enumerate(grid[:i])
        if settled[i] == settled[j]
    ]
    assert same == []


def test_fingerprints_tell_settings_apart_and_nothing_else() -> None:
    mesh = mesh_for(DEMO_MESH, PRESETS)
    plain = fingerprints(mesh, None)
    assert len({*plain.values()}) == len(plain) == len(PRESETS) + len(EXPERTS)
    alone = fingerprints(mesh_for(DEMO_MESH, [DEFAULT]), None)
    assert alone[DEFAULT.name] == plain[DEFAULT.name], "whom else it is compared with is no matter"
    spelled_out = Configuration(DEFAULT.name, {"exit": {"tau0": ExitRules().tau0}})
    assert (
        fingerprints(mesh_for(DEMO_MESH, [spelled_out]), None)[DEFAULT.name]
        == (plain[DEFAULT.name])
    )
    changed = Configuration(DEFAULT.name, {"exit": {"tau0": 0.5}})
    assert fingerprints(mesh_for(DEMO_MESH, [changed]), None)[DEFAULT.name] != plain[DEFAULT.name]
    assert not {*fingerprints(mesh, 5).values()} & {*plain.values()}
    other = {**mesh, "models": {**mesh["models"], "sums": {"torch": {"model": "other"}}}}
    assert not {*fingerprints(other, None).values()} & {*plain.values()}


def test_mesh_files_that_cannot_be_used(tmp_path) -> None:
    for content, problem in (
        ("models: []", "models: must be a mapping of at least one model"),
        ("- a", "must be a mapping of settings"),
        ("a: [", "not YAML"),
        ("models: {default: {}}", "models.default: the name of a configuration"),
    ):
        file = tmp_path / "mesh.yaml"
        file.write_text(content)
        with pytest.raises(Misconfigured, match=problem):
            mesh_for(file, PRESETS)
    with pytest.raises(Misconfigured, match="cannot be read"):
        mesh_for(tmp_path / "missing.yaml", PRESETS)
