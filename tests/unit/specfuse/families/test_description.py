"""A family as text, and back."""

from __future__ import annotations

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
