"""Reading values.yaml with its comments."""

from __future__ import annotations

import pytest

from deploy.helm.generate.values import Faults, parse

DOCUMENT = """\
# The head of the file.

# How it is named.
#
# A second paragraph.
name: ""
# What answers.
fuser:
  # How many.
  # @schema {minimum: 1,
  #   maximum: 9}
  replicas: 2 # not this
  # Where.
  place: {zone: a}

  # Which labels.
  # @schema {additionalProperties: {type: string}}
  labels:
    team: search
# Who else.
others: []
"""


def test_a_key_has_the_comment_right_above_it_and_its_default() -> None:
    name, fuser, others = parse(DOCUMENT, "values.yaml")
    assert (name.name, name.prose, name.default) == (
        "name",
        "How it is named.\n\nA second paragraph.",
        "",
    )
    assert fuser.prose == "What answers."
    assert (others.default, others.children) == ([], ())


def test_a_fragment_may_go_over_several_lines_and_is_no_prose() -> None:
    replicas = parse(DOCUMENT, "values.yaml")[1].children[0]
    assert replicas.name == "fuser.replicas"
    assert replicas.prose == "How many."
    assert replicas.fragment == {"minimum": 1, "maximum": 9}


def test_a_mapping_in_one_line_or_with_a_fragment_for_its_keys_is_one_value() -> None:
    _, place, labels = parse(DOCUMENT, "values.yaml")[1].children
    assert (place.default, place.children) == ({"zone": "a"}, ())
    assert (labels.default, labels.children) == ({"team": "search"}, ())


def test_all_keys_without_prose_are_named_with_their_lines() -> None:
    document = "a: 1\n# Said.\nb:\n  c: 2\n\n  # Of another.\n\n  d: 3\n"
    with pytest.raises(Faults) as caught:
        parse(document, "values.yaml")
    assert str(caught.value).splitlines() == [
        "values.yaml:1: a: has no prose; write a comment directly above it",
        "values.yaml:4: b.c: has no prose; write a comment directly above it",
        "values.yaml:8: b.d: has no prose; write a comment directly above it",
    ]


@pytest.mark.parametrize("fragment", ["{minimum: 1", "minimum", "", "[1]"])
def test_a_fragment_that_is_no_mapping_is_named(fragment: str) -> None:
    with pytest.raises(Faults, match=r"^values.yaml:3: a: @schema .*must be a mapping"):
        parse(f"# Said.\n# @schema {fragment}\na: 1\n", "values.yaml")


@pytest.mark.parametrize("document", ["", "- a\n", "text\n"])
def test_a_file_of_no_keys_is_refused(document: str) -> None:
    with pytest.raises(Faults, match=r"values\.yaml: must be a mapping"):
        parse(document, "values.yaml")
