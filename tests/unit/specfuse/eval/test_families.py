"""A family's questions as a suite."""

from __future__ import annotations

import pytest

from specfuse.eval.families import OF_EACH_KIND, FamilySuite
from specfuse.eval.suites import ErrorKind
from specfuse.families.invention import invent
from specfuse.families.questions import Kind, generate, kinds

FAMILY = invent(3)
SUITE = FamilySuite(FAMILY, seed=1)
QUESTIONS = generate(FAMILY, 1, len(SUITE.cases))


def test_every_kind_is_asked_as_often() -> None:
    cells = [(case.kind, case.parts) for case in SUITE.cases]
    assert dict.fromkeys(kinds(FAMILY), OF_EACH_KIND) == {cell: cells.count(cell) for cell in cells}


def test_more_questions_begin_with_the_same_ones() -> None:
    assert FamilySuite(FAMILY, 1, 30).cases == SUITE.cases[:30]


def test_another_family_is_another_suite() -> None:
    assert SUITE.name.startswith(f"{FAMILY.name}@")
    assert FamilySuite(invent(4), 1).name != SUITE.name


def test_the_right_answer_is_right_and_its_skills_are_told() -> None:
    for case, question in zip(SUITE.cases, QUESTIONS, strict=True):
        mark = SUITE.mark(case, case.answer)
        assert (mark.exact, mark.error, mark.invents) == (True, None, False)
        assert SUITE.skill_at(case, "") == "+".join(question.parts[0].skills)
        assert SUITE.skill_at(case, case.answer) == ""


@pytest.mark.parametrize("kind", [Kind.ALONE, Kind.SHARED])
def test_what_is_wrong_with_an_answer(kind: Kind) -> None:
    index = next(i for i, one in enumerate(QUESTIONS) if one.kind is kind and len(one.parts) == 1)
    case, (part,) = SUITE.cases[index], QUESTIONS[index].parts
    (skill,) = part.skills
    wrong = next(
        a for a in FAMILY.skill(skill).answers if a != FAMILY.skill(skill).facts[part.subject]
    )
    for text, error, invents in (
        (case.answer[:-1], ErrorKind.STOPPED, False),
        ("", ErrorKind.STOPPED, False),
        ("Good day.", ErrorKind.FORM, False),
        (f"{case.answer} And so on.", ErrorKind.RAN_ON, False),
        (FAMILY.honest(part), ErrorKind.DECLINED, False),
        (FAMILY.sentence(part, [wrong]), ErrorKind.WORD, True),
    ):
        mark = SUITE.mark(case, text)
        assert (mark.exact, mark.error, mark.invents) == (False, error, invents), text
