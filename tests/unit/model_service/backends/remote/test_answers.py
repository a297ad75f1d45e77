"""Numbers out of answers that may hold anything."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from model_service.backends.remote import answers
from specfuse.errors import ModelFailure

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


MOST = sys.float_info.max


@given(JSON)
@example(10**400)
def test_a_log_probability_is_a_finite_number_or_an_error(value: Any) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and -MOST <= value <= MOST:
        assert answers.logprob(value, "place") == value
    else:
        with pytest.raises(ModelFailure, match="for place, which must be a log-probability"):
            answers.logprob(value, "place")


@given(JSON)
def test_ids_are_counts_or_an_error(value: Any) -> None:
    try:
        found = answers.ids(value, "place")
    except ModelFailure:
        return
    assert list(found) == value
    assert all(type(token) is int and token >= 0 for token in found)


@given(st.text(min_size=4), st.sampled_from([answers.count, answers.logprob, answers.mapping]))
def test_an_error_never_quotes_text(text: str, read: Any) -> None:
    with pytest.raises(ModelFailure) as caught:
        read(f"secret {text}", "place")
    assert "secret" not in caught.value.message
