"""What is said of a wrong settings file, over sections made for the test."""

from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import Field

from specfuse.config import settings_file
from specfuse.config.types import Count, Name, Section
from specfuse.errors import Misconfigured


class Leaf(Section):
    colour: str = "green"
    size: Count = 1


class Tree(Section):
    leaves: Annotated[tuple[Leaf, ...], Field(min_length=1)]
    spare: tuple[Leaf, ...] | None = None
    named: dict[Name, Leaf] = Field(default_factory=dict)
    best: Leaf | None = None


FINE = "leaves: [{size: 2}]\n"


def problems_of(text: str) -> list[str]:
    with pytest.raises(Misconfigured) as caught:
        settings_file.parse(text, Tree, source="tree.yaml")
    return caught.value.message.splitlines()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("leaves: [{}, {zzz: 1}]", "tree.yaml:1: leaves[1].zzz: unknown key; known: colour, size"),
        ("leaves: [{color: red}]", "leaves[0].color: unknown key; did you mean colour?"),
        (FINE + "spare: [{zzz: 1}]", ":2: spare[0].zzz: unknown key; known: colour, size"),
        (FINE + "named: {oak: {zzz: 1}}", "named.oak.zzz: unknown key; known: colour, size"),
        (FINE + "zzz: 1", "zzz: unknown key; known: best, leaves, named, spare"),
        ("leaves: [{size: 0}]", "leaves[0].size: 0: must be greater than or equal to 1"),
        ("leaves: []", "leaves: must have at least 1 item, not 0"),
        ("leaves: {a: 1}", "leaves: a mapping: must be a list"),
        ("leaves: [5]", "leaves[0]: 5: must be a mapping; known keys: colour, size"),
        (FINE + "best: 5", "best: 5: must be a mapping; known keys: colour, size"),
        (FINE + "best: []", "best: a list: must be a mapping; known keys: colour, size"),
        (FINE + "named: 5", "named: 5: must be a mapping"),
        (FINE + "named: {a b: {}}", "named.a b: 'a b': must match pattern"),
        (FINE + "1: 2", ":2: 1: this key is read as a whole number; keys are text, so put it in"),
        (FINE + "named: {no: {}}", ":2: named.no: this key is read as a boolean; keys are text"),
        (FINE + "named: {null: {}}", "put it in quotes: 'null'"),
    ],
)
def test_one_mistake_is_one_line_with_key_value_and_remedy(text: str, problem: str) -> None:
    (line,) = problems_of(text)
    assert problem in line
    assert "Leaf" not in line


def test_a_key_in_quotes_is_text() -> None:
    settings = settings_file.parse(FINE + "named: {'1': {}}", Tree, source="tree.yaml")
    assert settings.named.keys() == {"1"}


def test_merged_keys_are_no_keys_of_their_own() -> None:
    text = "leaves: [&oak {size: 2}]\nbest: {<<: *oak}"
    best = settings_file.parse(text, Tree, source="tree.yaml").best
    assert best == Leaf(size=2)
