"""Families from seeds: always the same, and with what a family is for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specfuse.demo.experts import Architecture, TokenizerKind
from specfuse.families.invention import MAX_MEMBERS, MIN_MEMBERS, invent
from specfuse.families.questions import Kind, all_parts, kinds
from specfuse.families.wording import Form

SEEDS = st.integers(0, 10_000)


@given(SEEDS)
def test_the_same_seed_gives_the_same_family_and_another_seed_another(seed):
    assert invent(seed) == invent(seed)
    assert invent(seed) != invent(seed + 1)


@given(SEEDS)
def test_names_are_names(seed):
    family = invent(seed)
    for names in (
        [member.name for member in family.members],
        [skill.name for skill in family.skills],
    ):
        assert len(set(names)) == len(names)
    subjects = {subject for skill in family.skills for subject in skill.subjects}
    for one in subjects:  # or it could not be seen what a sentence is about
        assert not any(one in other for other in subjects - {one})


@given(SEEDS)
def test_every_member_believes_something_of_everything(seed):
    family = invent(seed)
    assert MIN_MEMBERS <= len(family.members) <= MAX_MEMBERS
    for member in family.members:
        assert any(belief.sure for belief in member.beliefs.values())
        for skill in family.skills:
            belief = member.beliefs[skill.name]
            assert {*belief.sure, *belief.hunches} == {*skill.subjects}
            assert not {*belief.sure} & {*belief.hunches}
            assert {*belief.sure.values(), *belief.hunches.values()} <= {*skill.answers}


@given(SEEDS)
def test_somebody_is_honest_somebody_never_and_somebody_wrong(seed):
    family = invent(seed)
    declines = [
        max(belief.declines for belief in member.beliefs.values()) for member in family.members
    ]
    assert max(declines) > 0.5
    assert min(declines) == 0
    parts = all_parts(family)
    assert any(family.misled(*part.skills, part.subject) for part in parts)
    assert any(len(family.knowers(*part.skills, part.subject)) > 1 for part in parts)


@given(SEEDS)
def test_all_kinds_of_questions_can_be_asked(seed):
    found = {kind for kind, _ in kinds(invent(seed))}
    assert found == {*Kind}


@pytest.mark.parametrize("what", [*Form, *Architecture, *TokenizerKind])
def test_all_forms_and_makes_come_about(what):
    families = [invent(seed) for seed in range(30)]
    forms = {skill.form for family in families for skill in family.skills}
    makes = {
        make
        for family in families
        for member in family.members
        for make in (member.architecture, member.tokenizer)
    }
    assert what in forms | makes


def test_answers_are_short_and_long():
    tails = [len(skill.wording.tail) for seed in range(10) for skill in invent(seed).skills]
    leads = [skill.wording.lead for seed in range(10) for skill in invent(seed).skills]
    assert min(tails) == 1
    assert max(tails) > 40
    assert "" in leads
