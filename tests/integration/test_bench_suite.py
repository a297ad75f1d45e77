"""Benches in processes of their own, as `make bench` runs them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import suite
from bench.report import LEFT_OUT
from bench.suite import Bench, Outcome, ran

PATIENCE_SECONDS = 60


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(suite, "HERE", tmp_path)
    return tmp_path


def written(folder: Path, program: str) -> Bench:
    (folder / "one.py").write_text(program)
    return Bench("one.py", "One", ("--option", "x"))


def test_what_a_bench_says_is_kept(folder: Path) -> None:
    run = ran(written(folder, "import sys; print('|', *sys.argv[1:], '|')"), PATIENCE_SECONDS)
    assert (run.outcome, run.said) == (Outcome.DONE, "| --option x |\n")


def test_no_path_of_the_repository_is_told(folder: Path) -> None:
    program = f"print('{suite.REPOSITORY}/bench/fuser.py')"
    assert ran(written(folder, program), PATIENCE_SECONDS).said == "bench/fuser.py\n"


def test_one_that_fails(folder: Path) -> None:
    run = ran(written(folder, "print('half'); raise SystemExit(1)"), PATIENCE_SECONDS)
    assert (run.outcome, run.said, run.well) == (Outcome.FAILED, "half\n", False)


def test_one_that_lacks_something(folder: Path) -> None:
    run = ran(written(folder, f"raise SystemExit({LEFT_OUT})"), PATIENCE_SECONDS)
    assert (run.outcome, run.well) == (Outcome.LEFT_OUT, True)


def test_one_that_takes_too_long_is_ended(folder: Path) -> None:
    program = "import signal\nprint('begun', flush=True)\nwhile True: signal.pause()"
    run = ran(written(folder, program), 3.0)
    assert (run.outcome, run.well) == (Outcome.TOO_LONG, False)
