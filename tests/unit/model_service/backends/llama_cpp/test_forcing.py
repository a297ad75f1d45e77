"""Branches in parts that llama-server can be made to generate."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_service.backends.llama_cpp.forcing import Run, Single, grammar, is_whole, parts


@given(ids=st.lists(st.integers(0, 50)).map(tuple), literals=st.frozensets(st.integers(0, 50)))
def test_the_parts_are_the_branch_and_runs_are_as_long_as_can_be(
    ids: tuple[int, ...], literals: frozenset[int]
) -> None:
    found = list(parts(ids, literals.__contains__))
    flat = [
        token for part in found for token in (part.ids if isinstance(part, Run) else (part.token,))
    ]
    assert tuple(flat) == ids
    for part in found:
        if isinstance(part, Run):
            assert part.ids
            assert literals.issuperset(part.ids)
        else:
            assert part.token not in literals
    assert not any(isinstance(a, Run) and isinstance(b, Run) for a, b in pairwise(found))


def test_a_token_alone_is_named_alone() -> None:
    assert list(parts((7, 8, 9), {7, 9}.__contains__)) == [Run((7,)), Single(8), Run((9,))]


def test_a_grammar_names_ids() -> None:
    assert grammar((3, 14)) == "root ::= <[3]> <[14]>"


@pytest.mark.parametrize(
    ("spelt", "whole"),
    [
        (b" a", True),
        ("你".encode(), True),
        ("你".encode()[:2], False),
        (b"", False),
        (b"a\0", False),
    ],
)
def test_only_whole_characters_can_be_named(spelt: bytes, whole: bool) -> None:
    assert is_whole(spelt) is whole
