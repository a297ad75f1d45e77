"""What is asked, and who is right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from specfuse.errors import Misconfigured
from specfuse.eval.suites import CompoundSuite, ErrorKind, FileSuite, Match

SUITE = CompoundSuite(seed=7, count=25)


def test_compound_questions_have_one_to_five_parts_in_turn() -> None:
    assert [case.parts for case in SUITE.cases] == [1, 2, 3, 4, 5] * 5
    assert len({case.id for case in SUITE.cases}) == 25


def test_more_questions_begin_with_the_same_ones() -> None:
    assert CompoundSuite(7, 43).cases[:25] == SUITE.cases
    assert CompoundSuite(7, 3).cases == SUITE.cases[:3]


def test_another_seed_asks_other_questions() -> None:
    prompts = {case.prompt for case in SUITE.cases}
    assert prompts.isdisjoint(case.prompt for case in CompoundSuite(8, 25).cases if case.parts > 1)


def test_the_right_answer_is_right() -> None:
    for case in SUITE.cases:
        mark = SUITE.mark(case, f"{case.answer}\n")
        assert mark.exact
        assert mark.parts == (True,) * case.parts
        assert mark.error is None


def test_what_is_wrong_with_an_answer() -> None:
    case = next(case for case in SUITE.cases if case.parts == 3)
    first, second, third = [f"{s}." for s in case.answer.removesuffix(".").split(". ")]
    wrong_word = " ".join([first, second, _with_another_word(SUITE, case.id)])
    for text, error, marks in (
        ("", ErrorKind.STOPPED, (False, False, False)),
        (f"{first} {second}", ErrorKind.STOPPED, (True, True, False)),
        (case.answer[:-5], ErrorKind.STOPPED, (True, True, False)),
        (f"{case.answer} {first}", ErrorKind.RAN_ON, (True, True, True)),
        (wrong_word, ErrorKind.WORD, (True, True, False)),
        (f"{first} {third} {second}", ErrorKind.FORM, (True, False, False)),
        (f"{first} {second} No idea.", ErrorKind.FORM, (True, True, False)),
    ):
        mark = SUITE.mark(case, text)
        assert (mark.exact, mark.parts, mark.error) == (False, marks, error), text


def _with_another_word(suite: CompoundSuite, id_: str) -> str:
    return suite._questions[id_].parts[-1].sentence_with("Nowhere")


def test_the_skill_of_the_part_being_answered() -> None:
    case = next(case for case in SUITE.cases if case.parts == 5)
    skills = [skill.value for skill in SUITE._questions[case.id].skills]
    sentences = [part.sentence for part in SUITE._questions[case.id].parts]
    for index, skill in enumerate(skills):
        before = " ".join(sentences[:index])
        assert SUITE.skill_at(case, before) == skill
        assert SUITE.skill_at(case, f"{before} {sentences[index][:-4]}") == skill
        assert SUITE.skill_at(case, f"{before} {sentences[index]}"[:-1]) == skill
    assert SUITE.skill_at(case, case.answer) == ""


def write(path: Path, *lines: object) -> Path:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def test_a_file_of_questions(tmp_path: Path) -> None:
    questions = [{"prompt": f"{n} + 1?", "answer": str(n + 1)} for n in (1, 2, 3)]
    file = write(tmp_path / "sums.jsonl", *questions)
    exact, contains = (FileSuite(file, match) for match in Match)
    assert [case.prompt for case in exact.cases] == ["1 + 1?", "2 + 1?", "3 + 1?"]
    assert FileSuite(file, Match.EXACT, 2).cases == exact.cases[:2]
    first = exact.cases[0]
    assert exact.mark(first, " 2\n").exact
    assert not exact.mark(first, "It is 2.").exact
    assert contains.mark(first, "It is 2.").exact
    assert not contains.mark(first, "It is 3.").exact
    assert exact.name != contains.name
    changed = write(tmp_path / "sums.jsonl", *questions[:2])
    assert FileSuite(changed, Match.EXACT).name != exact.name


@pytest.mark.parametrize(
    "line", ["{", "[]", '"text"', '{"prompt": "x"}', '{"prompt": "", "answer": "y"}', "7", "null"]
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "wrong.jsonl"
    file.write_text('{"prompt": "a", "answer": "b"}\n\n' + line)
    with pytest.raises(Misconfigured, match=r"wrong.jsonl:3: must be like"):
        FileSuite(file, Match.EXACT)


def test_any_character_may_be_in_a_question(tmp_path: Path) -> None:
    file = tmp_path / "suite.jsonl"
    file.write_text('\ufeff{"prompt": "a\u2028b\x85", "answer": "c"}\r\n', newline="")
    (case,) = FileSuite(file, Match.EXACT).cases
    assert (case.prompt, case.answer) == ("a\u2028b\x85", "c")


def test_what_is_no_character_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "suite.jsonl"
    file.write_text(r'{"prompt": "a\ud800", "answer": "c"}')
    with pytest.raises(Misconfigured, match=r"suite.jsonl:1: has half a surrogate pair"):
        FileSuite(file, Match.EXACT)


def test_files_that_are_no_suites(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name in ("empty", "binary", "missing"):
        with pytest.raises(Misconfigured, match=name):
            FileSuite(tmp_path / name, Match.EXACT)
