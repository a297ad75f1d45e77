"""Answers are kept as they come, and what is kept is not asked again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from specfuse.errors import Misconfigured
from specfuse.eval.records import Record, ResultsFile, RoundRecord, System, SystemKind

ALL = System(SystemKind.FUSED, "all")
ROUND = RoundRecord("ada", " árbol", 2, 3, 2, voted=True, recalled=False, skill="spanish")
RECORD = Record(
    system=ALL,
    case="1-0",
    text="árbol",
    ended=True,
    exact=False,
    marks=(True, False),
    error="word",
    rounds=(ROUND, replace(ROUND, winner="bob")),
    calls_made=7,
    calls_avoided=5,
    output_tokens=4,
    discarded_tokens=6,
    first_segment_seconds=0.25,
    seconds=1.5,
    lost=0,
)


def results(path: Path, *, suite: str = "compound", seed: int = 1) -> ResultsFile:
    return ResultsFile(path, suite, seed)


def kept(path: Path) -> tuple[Record, ...]:
    with results(path) as file:
        return file.records


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.jsonl"
    with results(path) as first:
        assert first.records == ()
        first.add(RECORD)
        assert '"árbol"' in path.read_text()  # at once, not when it is closed
        first.add(replace(RECORD, case="2-0"))
    with results(path) as again:
        assert again.of(ALL, "1-0") == RECORD
        assert again.of(ALL, "3-0") is None
        again.add(replace(RECORD, case="3-0"))
    assert [record.case for record in kept(path)] == ["1-0", "2-0", "3-0"]


def test_a_line_that_was_cut_off_is_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    with results(path) as first:
        first.add(RECORD)
        first.add(replace(RECORD, case="2-0"))
    path.write_bytes(path.read_bytes()[:-40])
    with results(path) as again:
        assert again.records == (RECORD,)
        again.add(replace(RECORD, case="4-0"))
    assert [record.case for record in kept(path)] == ["1-0", "4-0"]


def test_answers_under_other_settings_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    other = System(SystemKind.FUSED, "other")
    with results(path) as first:
        first.begin(ALL, "tau0 0.02")
        first.begin(ALL, "tau0 0.02")
        first.add(RECORD)
    with results(path) as again:
        again.begin(ALL, "tau0 0.02")
        again.begin(other, "tau0 0.05")
        with pytest.raises(Misconfigured, match=r"results.jsonl: has answers of all under other"):
            again.begin(ALL, "tau0 0.05")
        assert again.records == (RECORD,)
    with results(path) as last, pytest.raises(Misconfigured, match="other under other settings"):
        last.begin(other, "tau0 0.02")


def test_answers_under_unknown_settings_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    with results(path) as first:
        first.add(RECORD)
    with results(path) as again, pytest.raises(Misconfigured, match="of all under other settings"):
        again.begin(ALL, "tau0 0.02")


def test_results_of_other_questions_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    with results(path) as first:
        first.add(RECORD)
    for other in ({"seed": 2}, {"suite": "sums.jsonl"}):
        with pytest.raises(Misconfigured, match=r"--out .*has results of .*'seed': 1"):
            results(path, **other)


@pytest.mark.parametrize("content", ["notes", "notes\nof mine\n", '{"a": 1}\n', "[]\n", "\n"])
def test_another_file_is_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(content)
    with pytest.raises(Misconfigured, match="not results of an evaluation"):
        results(path)
    assert path.read_text() == content


def test_a_broken_line_is_no_result(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    with results(path):
        pass
    begun = path.read_text()
    wrong_type = json.dumps(RECORD.to_document() | {"calls_made": "x"})
    for line in ('{"system": "all"}', "null", "[1]", '{"broken": ', wrong_type):
        path.write_text(f"{begun}{line}\n")
        with pytest.raises(Misconfigured, match=r"results.jsonl:2: the line is not a result"):
            results(path)
        assert path.read_text() == f"{begun}{line}\n"


def test_any_character_may_be_in_an_answer(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    record = replace(RECORD, text="a\u2028b\u2029c\x85d\x0be\nf\rg")
    with results(path) as first:
        first.add(record)
    assert kept(path) == (record,)


def test_two_evaluations_do_not_write_to_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    with results(path) as first:
        first.add(RECORD)
        with pytest.raises(Misconfigured, match="another evaluation writes to it"):
            results(path)
    assert kept(path) == (RECORD,)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Misconfigured, match="--out"):
        results(tmp_path / "file" / "results.jsonl")
    with pytest.raises(Misconfigured, match="--out"):
        results(tmp_path)


def test_without_a_file_all_is_kept_in_memory() -> None:
    with ResultsFile(None, "compound", 1) as memory:
        memory.add(RECORD)
        assert memory.records == (RECORD,)
