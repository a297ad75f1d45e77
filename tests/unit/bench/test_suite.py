"""The run of all benches, and its page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from bench.suite import BENCHES, REPOSITORY, Bench, Outcome, Run, chosen, facts, page

FOLDER = REPOSITORY / "bench"
PROGRAMS = {"suite.py", "silent_fuser.py"}
"""What can be run and measures nothing: this, and what `observing.py` starts."""

DONE = Run(Bench("fuser.py", "Fusers", ("--rounds", "2")), Outcome.DONE, 12.3, 0.5, "\n| a |\n\n")
FAILED = Run(Bench("scale.py", "Growth"), Outcome.FAILED, 1.0, 0.5, "half a table\n")
LEFT_OUT = Run(Bench("x.py", "X", needs="make servers"), Outcome.LEFT_OUT, 0.1, 0.5, "")


def test_it_runs_every_bench() -> None:
    can_be_run = {file.name for file in FOLDER.glob("*.py") if "__main__" in file.read_text()}
    assert {bench.file for bench in BENCHES} == can_be_run - PROGRAMS


@pytest.mark.parametrize("bench", BENCHES, ids=lambda bench: bench.file)
def test_a_bench_has_the_options_that_it_is_given(bench: Bench) -> None:
    source = (FOLDER / bench.file).read_text()
    for option in (each for each in bench.options if each.startswith("--")):
        name = option.removeprefix("--").replace("-", "_")
        assert re.search(rf'^    {name}: Annotated|"{option}"', source, re.MULTILINE), option


def test_a_page_has_what_was_said_and_how_to_measure_it_again() -> None:
    text = page([DONE, FAILED, LEFT_OUT], {"date": "today"})
    assert "| date | today |" in text
    assert "| fuser.py | 12 s | 0.5 | done |" in text
    assert "## Fusers\n\n    .venv/bin/python bench/fuser.py --rounds 2\n\n| a |\n\n## Gro" in text
    assert "**It failed.** What it said until then:\n\nhalf a table\n" in text
    assert text.endswith("Left out: it needs `make servers`.\n")


def test_what_went_well() -> None:
    assert [run.well for run in (DONE, FAILED, LEFT_OUT)] == [True, False, True]


def test_nothing_tells_which_machine_it_was() -> None:
    text = page([DONE], facts())
    assert set(facts()) == {"date", "revision", "machine", "versions"}
    assert str(Path.home()) not in text
    assert str(REPOSITORY) not in text


def test_some_benches() -> None:
    assert [bench.file for bench in chosen(["scale", "fuser.py"])] == ["scale.py", "fuser.py"]
    assert chosen([]) == list(BENCHES)
    with pytest.raises(typer.BadParameter, match="there is no bench nothing; there are fuser, "):
        chosen(["nothing"])
