"""A family as text, and back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specfuse.families.description import Family
from specfuse.families.invention import invent


@given(st.integers(0, 500))
def test_it_is_the_same_after_being_written(seed):
    family = invent(seed)
    assert Family.from_json(family.to_json()) == family


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": "amber-1"}', "\0"])
def test_what_is_no_family_is_refused(text):
    with pytest.raises(ValueError, match=r"validation error"):
        Family.from_json(text)


FAMILY = invent(3)
SKILL, MEMBER = FAMILY.skills[0], FAMILY.members[0]


@pytest.mark.parametrize(
    ("family", "problem"),
    [
        (replace(FAMILY, skills=()), "it has no skills"),
        (replace(FAMILY, members=()), "it has no members"),
        (replace(FAMILY, skills=(replace(SKILL, facts={}), *FAMILY.skills[1:])), "has no facts"),
        *(
            (
                replace(
                    FAMILY, skills=(replace(SKILL, wording=replace(SKILL.wording, lead=lead)),)
                ),
                "no braces but",
            )
            for lead in ("{1}", "{", "{x}", "{0.x}", "{0[1]}")
        ),
        (
            replace(FAMILY, members=(replace(MEMBER, beliefs={}),)),
            f"the beliefs of {MEMBER.name} are not one for each skill",
        ),
    ],
)
def test_a_family_that_contradicts_itself_is_refused(family, problem):
    with pytest.raises(ValueError, match=problem):
        Family.from_json(family.to_json())
