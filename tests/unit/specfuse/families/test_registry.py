"""Which families there are, and that none serves both to choose and to report."""

from __future__ import annotations

import json

import pytest

from specfuse.errors import Misconfigured
from specfuse.families.directory import DESCRIPTION, MODELS, described
from specfuse.families.invention import invent
from specfuse.families.registry import SEEDS, Purpose, directory_of, purpose_of, shipped

MEGABYTE = 10**6
SHIPPED = shipped()


def test_no_seed_serves_both():
    assert not {*SEEDS[Purpose.CHOOSING]} & {*SEEDS[Purpose.REPORTING]}
    for purpose, seeds in SEEDS.items():
        assert {purpose_of(seed) for seed in seeds} == {purpose}
    assert purpose_of(max(SEEDS[Purpose.REPORTING]) + 1) is None


def test_one_is_shipped_to_choose_by_and_one_to_report_on():
    purposes = [purpose_of(described(directory).seed) for directory in SHIPPED.values()]
    assert sorted(purposes) == [Purpose.CHOOSING, Purpose.REPORTING]


def test_they_are_small():
    files = [file for directory in SHIPPED.values() for file in directory.rglob("*.*")]
    assert sum(file.stat().st_size for file in files) < 10 * MEGABYTE


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_family_is_that_of_its_seed(name):
    family = described(SHIPPED[name])
    assert family == invent(family.seed)
    assert family.name == name
    assert directory_of(name) == SHIPPED[name]


@pytest.mark.parametrize("name", SHIPPED)
def test_its_members_were_measured_to_do_what_it_says(name):
    directory = SHIPPED[name]
    for member in described(directory).members:
        measured = json.loads((directory / MODELS / member.name / "measured.json").read_text())
        assert measured["own"] > 0.95, member.name
        assert abs(measured["declines"] - measured["declines_said"]) < 0.2, member.name


def test_a_family_may_lie_anywhere(tmp_path):
    (tmp_path / DESCRIPTION).write_bytes(invent(4).to_json())
    assert directory_of(str(tmp_path)) == tmp_path
    with pytest.raises(
        Misconfigured, match=rf"neither a directory .* shipped are: {next(iter(SHIPPED))}"
    ):
        directory_of("nowhere")


def test_no_name_is_no_family_even_where_one_lies(tmp_path, monkeypatch):
    (tmp_path / DESCRIPTION).write_bytes(invent(4).to_json())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Misconfigured, match="--family ''"):
        directory_of("")
