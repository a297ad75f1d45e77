"""What is asked of a family, and that it is what its kind says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specfuse.families.invention import invent
from specfuse.families.marking import read, right_answer
from specfuse.families.questions import MAX_PARTS, Kind, generate, kinds

FAMILIES = st.integers(0, 200).map(invent)
SEEDS = st.integers(0, 1000)


@given(FAMILIES, SEEDS)
def test_the_same_seed_asks_the_same_and_more_questions_begin_with_the_fewer(family, seed):
    assert generate(family, seed, 30)[:20] == generate(family, seed, 20)
    assert generate(family, seed, 20) != generate(family, seed + 1, 20)


@given(FAMILIES, SEEDS)
def test_every_kind_and_number_of_parts_comes_in_turn(family, seed):
    cells = kinds(family)
    asked = [
        (question.kind, len(question.parts)) for question in generate(family, seed, 2 * len(cells))
    ]
    assert asked == [*cells, *cells]


@given(FAMILIES, SEEDS)
def test_questions_are_answerable(family, seed):
    for question in generate(family, seed, 20):
        assert 1 <= len(question.parts) <= MAX_PARTS
        assert len({part.subject for part in question.parts}) == len(question.parts)
        assert all(part.subject in question.prompt for part in question.parts)
        right = right_answer(family, question.parts)
        reading = read(family, question.parts, right)
        assert reading.exact
        assert not reading.invents


def alone(_family, _parts, knowers, misled):
    return len(frozenset.union(*knowers)) == 1 and all(knowers) and not any(misled)


def shared(_family, _parts, knowers, misled):
    return all(len(one) > 1 for one in knowers) and not any(misled)


def several(_family, _parts, knowers, misled):
    return all(knowers) and not frozenset.intersection(*knowers) and not any(misled)


def mid_sentence(family, parts, knowers, misled):
    (joint,) = (part for part in parts if len(part.skills) > 1)
    first, second = (family.knowers(skill, joint.subject) for skill in joint.skills)
    return not first & second and all(knowers) and not any(misled)


def contested(_family, _parts, knowers, misled):
    return all(knowers) and sum(map(bool, misled)) == 1


def unknown(_family, _parts, knowers, _misled):
    return sum(not one for one in knowers) == 1


IS_OF_KIND = {
    Kind.ALONE: alone,
    Kind.SHARED: shared,
    Kind.SEVERAL: several,
    Kind.MID_SENTENCE: mid_sentence,
    Kind.CONTESTED: contested,
    Kind.UNKNOWN: unknown,
}


@pytest.mark.parametrize("seed", range(8))
def test_a_kind_is_what_it_says(seed):
    family = invent(seed)
    for question in generate(family, seed, 120):
        facts = [(skill, part.subject) for part in question.parts for skill in part.skills]
        knowers = [family.knowers(*fact) for fact in facts]
        misled = [family.misled(*fact) for fact in facts]
        assert IS_OF_KIND[question.kind](family, question.parts, knowers, misled), question
