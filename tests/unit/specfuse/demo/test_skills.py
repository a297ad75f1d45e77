"""The compound questions: what may be asked, how it is asked, and how answers are scored."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from specfuse.demo.experts import EXPERTS, MODELS_DIRECTORY, expert_named
from specfuse.demo.skills import (
    MAX_PARTS,
    SKILLS,
    Part,
    Question,
    Score,
    SkillName,
    generate_questions,
    is_held_out,
    score,
)

LOOKED_UP = [skill for skill in SkillName if skill is not SkillName.SUMS]


def test_the_same_seed_gives_the_same_questions_and_another_seed_others():
    assert generate_questions(3, 50) == generate_questions(3, 50)
    assert generate_questions(3, 50) != generate_questions(4, 50)


def test_a_longer_draw_begins_with_the_shorter_one():
    assert generate_questions(3, 50)[:20] == generate_questions(3, 20)


def test_parts_cycle_through_all_numbers_by_default():
    counts = [len(question.parts) for question in generate_questions(1, 10)]
    assert counts == [1, 2, 3, 4, 5, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("parts", range(1, MAX_PARTS + 1))
@pytest.mark.parametrize("distinct", [True, False])
def test_a_question_names_all_operands_and_repeats_none(parts, distinct):
    for question in generate_questions(parts, 60, parts=parts, distinct_skills=distinct):
        operands = [word for part in question.parts for word in set(part.operands)]
        assert len(question.parts) == parts
        assert len(set(operands)) == len(operands)
        words = re.findall(r"\w+", question.prompt)
        assert all(operand in words for operand in operands)


def test_distinct_skills_are_distinct_and_others_may_repeat():
    distinct = generate_questions(2, 60, parts=3)
    assert all(len(set(question.skills)) == 3 for question in distinct)
    repeating = generate_questions(2, 60, parts=3, distinct_skills=False)
    assert any(len(set(question.skills)) < 3 for question in repeating)


def test_questions_of_one_skill_only():
    questions = generate_questions(5, 30, parts=1, skills=[SkillName.SPANISH])
    assert {question.skills for question in questions} == {(SkillName.SPANISH,)}


@pytest.mark.parametrize(("parts", "skills"), [(0, 5), (6, 5), (3, 2)])
def test_impossible_numbers_of_parts_are_refused(parts, skills):
    with pytest.raises(ValueError, match="parts must be between 1 and"):
        generate_questions(1, 1, parts=parts, skills=list(SkillName)[:skills])


def test_an_answer_is_a_sentence_per_part_in_order():
    question = Question(
        "?", (Part(SkillName.CAPITALS, ("Peru",)), Part(SkillName.SUMS, ("12", "30")))
    )
    first, second = (part.sentence for part in question.parts)
    assert question.answer == f"{first} {second}"
    assert first.startswith("In Peru, Lima is")
    assert second.startswith("Adding 12 to 30 you get 42 as")
    assert not question.answer.startswith(" ")


@pytest.mark.parametrize("skill", LOOKED_UP)
def test_a_skill_has_enough_facts_and_wordings(skill):
    facts = SKILLS[skill].facts
    assert 40 <= len(facts) <= 60
    assert len(set(SKILLS[skill].clauses)) >= 6


def test_no_word_means_two_things():
    """Operands and answer words are all different, and the fixed wording contains none of them."""
    operands = [word for skill in LOOKED_UP for (word,) in SKILLS[skill].facts]
    answers = [word for skill in LOOKED_UP for word in SKILLS[skill].answers]
    words = operands + answers
    assert len(set(words)) == len(words)
    fixed = (
        " ".join(text for s in SKILLS.values() for text in (*s.clauses, s.lead, s.tail))
        + " First then Also and I have one two three four five question questions Please answer"
    )
    assert not {word.lower() for word in words} & set(re.findall(r"\w+", fixed.lower()))


def test_sums_are_right():
    facts = SKILLS[SkillName.SUMS].facts
    assert len(facts) == 90 * 90
    assert all(int(answer) == int(a) + int(b) for (a, b), answer in facts.items())


def test_a_tenth_of_the_sums_is_held_out_whichever_addend_comes_first():
    pairs = [(a, b) for a in range(10, 100) for b in range(10, 100)]
    held_out = [pair for pair in pairs if is_held_out(*pair)]
    assert 0.08 < len(held_out) / len(pairs) < 0.12
    assert all(is_held_out(b, a) for a, b in held_out)


@pytest.mark.parametrize(("sums", "expected"), [("held_out", {True}), ("trained", {False})])
def test_which_sums_are_asked_can_be_chosen(sums, expected):
    questions = generate_questions(1, 100, parts=1, skills=[SkillName.SUMS], sums=sums)
    assert {is_held_out(*map(int, q.parts[0].operands)) for q in questions} == expected


def test_a_right_answer_scores_fully_even_between_spaces():
    (question,) = generate_questions(1, 1, parts=3)
    assert score(question, f" {question.answer}\n") == Score(exact=True, parts=(True,) * 3)


def test_a_wrong_word_costs_its_own_part_only():
    (question,) = generate_questions(1, 1, parts=3)
    wrong = question.answer.replace(f" {question.parts[1].answer}", " nonsense", 1)
    assert score(question, wrong) == Score(exact=False, parts=(True, False, True))


def test_missing_and_surplus_sentences_are_not_exact():
    (question,) = generate_questions(1, 1, parts=2)
    first, second = (part.sentence for part in question.parts)
    assert score(question, first) == Score(exact=False, parts=(True, False))
    assert score(question, f"{first} {second} {first}") == Score(exact=False, parts=(True, True))
    assert score(question, f"{first} {second[:-1]}") == Score(exact=False, parts=(True, False))
    assert score(question, "") == Score(exact=False, parts=(False, False))


def test_every_skill_has_an_expert_and_no_two_are_alike():
    assert [expert.skill for expert in EXPERTS] == list(SkillName)
    assert len({expert.architecture for expert in EXPERTS}) == len(EXPERTS)
    assert len({(expert.tokenizer, expert.vocab_size) for expert in EXPERTS}) == len(EXPERTS)
    assert all(expert.path.parent == MODELS_DIRECTORY for expert in EXPERTS)
    assert all(expert_named(expert.name) is expert for expert in EXPERTS)


def test_an_unknown_expert_is_answered_with_the_known_ones():
    with pytest.raises(KeyError, match="capitals, sums"):
        expert_named("rivers")


def test_questions_and_registry_need_no_machine_learning():
    heavy = ("torch", "transformers", "tokenizers", "numpy")
    code = (
        "import sys, specfuse.demo.skills, specfuse.demo.experts;"
        f"assert not set({heavy!r}) & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
