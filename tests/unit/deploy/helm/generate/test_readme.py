"""The list of values in the chart's README."""

from __future__ import annotations

import pytest

from deploy.helm.generate.readme import MARKER, completed
from deploy.helm.generate.values import parse

PAGE = f"# Title\n\nBy hand.\n\n{MARKER}\n\nof yesterday\n"


def listed(document: str) -> list[str]:
    page = completed(PAGE, parse(document, "values.yaml"))
    head, _, below = page.partition(f"{MARKER}\n\n")
    assert head == "# Title\n\nBy hand.\n\n"
    return below.splitlines()


def test_a_value_has_a_section_with_its_prose_and_default() -> None:
    assert listed("# How it is named.\n#\n# So.\nname: x\n") == [
        "### `name`",
        "",
        "How it is named.",
        "",
        "So.",
        "",
        'Default: `"x"`',
    ]


def test_values_inside_are_a_table_in_their_order() -> None:
    document = """\
# What answers.
fuser:
  # One
  # of: `a|b`.
  #
  # - x
  # - y
  z: a|b
  # Inside.
  inner:
    # Deep.
    deep: [1]
"""
    assert listed(document) == [
        "### `fuser`",
        "",
        "What answers.",
        "",
        "| Value | Default | |",
        "|---|---|---|",
        '| `fuser.z` | `"a\\|b"` | One of: `a\\|b`.<br><br>- x<br>- y |',
        "| `fuser.inner` |  | Inside. |",
        "| `fuser.inner.deep` | `[1]` | Deep. |",
    ]


def test_a_long_default_is_not_repeated() -> None:
    assert listed(f"# Said.\na: {'x' * 100}\n")[-1] == "Default: see `values.yaml`"


def test_the_keys_of_an_entry_that_a_service_describes_are_listed() -> None:
    document = """\
# Said.
# @schema {additionalProperties: {$ref: "fuser#/$defs/Ensemble"}}
ensembles: {}
"""
    rows = [line for line in listed(document) if line.startswith("| `")]
    assert rows[0].startswith("| `members` | required | ")
    assert any(row.startswith("| `max_tokens` | `512` | Most tokens") for row in rows)


def test_a_page_without_the_marker_is_refused() -> None:
    with pytest.raises(ValueError, match=r"README\.md has no line"):
        completed("# Title\n", ())
