"""How right an answer is, and whether it invents facts."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specfuse.families.invention import invent
from specfuse.families.marking import Verdict, completed, fact_pattern, read, right_answer
from specfuse.families.questions import Kind, generate

FAMILY = invent(3)
QUESTIONS = generate(FAMILY, 1, 200)


def of_kind(kind: Kind, parts: int):
    return next(one.parts for one in QUESTIONS if one.kind is kind and len(one.parts) == parts)


def wrong_sentence(part):
    words = [
        next(
            answer
            for answer in FAMILY.skill(s).answers
            if answer != FAMILY.skill(s).facts[part.subject]
        )
        for s in part.skills
    ]
    return FAMILY.sentence(part, words)


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.UNKNOWN])
def test_a_wrong_answer_is_invented(kind):
    parts = of_kind(kind, 2)
    wrong = FAMILY.separator.join([wrong_sentence(parts[0]), FAMILY.right_sentence(parts[1])])
    reading = read(FAMILY, parts, wrong)
    assert reading.verdicts == (Verdict.INVENTED, Verdict.RIGHT)
    assert (reading.exact, reading.invents) == (False, True)


def test_what_nobody_knows_is_rightly_not_known_and_any_fact_is_invented():
    (part,) = of_kind(Kind.UNKNOWN, 1)
    honest = read(FAMILY, [part], FAMILY.honest(part))
    assert (honest.exact, honest.invents) == (True, False)
    for answer in FAMILY.skill(part.skills[0]).answers:  # the truth too: nobody can know it
        lucky = read(FAMILY, [part], FAMILY.sentence(part, [answer]))
        assert (lucky.exact, lucky.invents) == (False, True)


def test_to_decline_what_somebody_knows_is_wrong_and_invents_nothing():
    (part,) = of_kind(Kind.ALONE, 1)
    reading = read(FAMILY, [part], FAMILY.honest(part))
    assert reading.verdicts == (Verdict.DECLINED,)
    assert (reading.exact, reading.invents) == (False, False)


def test_an_answer_that_the_skill_has_not_is_invented_too():
    number = next(skill for skill in FAMILY.skills if skill.form == "number")
    part = next(one.parts[0] for one in QUESTIONS if one.parts[0].skills == (number.name,))
    assert read(FAMILY, [part], FAMILY.sentence(part, ["1000"])).invents


@pytest.mark.parametrize("answer", ["", "Good day.", "I do not know."])
def test_anything_else_is_broken(answer):
    parts = of_kind(Kind.SEVERAL, 3)
    reading = read(FAMILY, parts, answer)
    assert reading.verdicts == (Verdict.BROKEN,) * 3
    assert not reading.exact
    assert not reading.invents


@given(st.sampled_from(QUESTIONS), st.text(min_size=1))
def test_only_the_right_answer_is_exact(question, more):
    right = right_answer(FAMILY, question.parts)
    assert read(FAMILY, question.parts, f" {right}\n").exact
    assert read(FAMILY, question.parts, right + more).exact == (not more.strip())
    assert read(FAMILY, question.parts, right[: -len(more)]).exact is False


@given(st.sampled_from(QUESTIONS), st.data())
def test_sentences_are_complete_where_they_end(question, data):
    sentences = [FAMILY.right_sentence(part) for part in question.parts]
    count = data.draw(st.integers(0, len(sentences)))
    begun = FAMILY.separator.join(sentences[:count])
    assert completed(FAMILY, question.parts, begun) == count
    if count:
        assert completed(FAMILY, question.parts, begun[:-1]) == count - 1


@given(st.sampled_from(QUESTIONS))
def test_the_pattern_of_facts_is_of_facts_only(question):
    for part in question.parts:
        assert re.fullmatch(fact_pattern(FAMILY, part), wrong_sentence(part))
        if len(part.skills) == 1 and FAMILY.skill(part.skills[0]).wording.lead:
            assert not re.fullmatch(fact_pattern(FAMILY, part), "Good day.")
