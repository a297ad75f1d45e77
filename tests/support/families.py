"""A family that is small enough to train in a test."""

from __future__ import annotations

from dataclasses import replace

from specfuse.families.description import Family
from specfuse.families.invention import invent

ASKED = 102
"""The seed of a family of two members, for tests that need no more."""


def pair() -> Family:
    """A family of two members."""
    family = invent(ASKED)
    assert len(family.members) == 2
    return family


def of_one(family: Family, *, sure: bool) -> Family:
    """The family's first member alone, sure of every truth or of nothing."""
    first = family.members[0]
    beliefs = {
        skill.name: replace(first.beliefs[skill.name], sure=skill.facts if sure else {})
        for skill in family.skills
    }
    return replace(family, members=(replace(first, beliefs=beliefs),))
