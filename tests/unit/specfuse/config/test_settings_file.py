"""What is said of a wrong settings file, over sections made for the test."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
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


def test_problems_are_told_in_the_order_of_the_file():
    text = "zzz: 1\nnamed:\n  oak: {size: 0}\nbest: {colour: 3}\nzzz: 2\n"
    assert [problem.split(": ")[:2] for problem in problems_of(text)] == [
        ["tree.yaml:1", "zzz"],
        ["tree.yaml:1", "zzz"],
        ["tree.yaml:3", "named.oak.size"],
        ["tree.yaml:4", "best.colour"],
        ["tree.yaml", "leaves"],
    ]


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


@pytest.mark.parametrize("day", ["2024-01-01", "2024-13-45", "2001-12-14t21:59:43.10-99:99", "="])
def test_what_yaml_takes_for_a_date_is_text(day: str) -> None:
    text = f"leaves: [{{colour: {day}}}]\nnamed: {{{day}: {{}}}}"
    with suppress(Misconfigured):  # not every date is a name
        settings_file.parse(text, Tree, source="tree.yaml")
    leaf = settings_file.parse(text.splitlines()[0], Tree, source="tree.yaml").leaves[0]
    assert leaf.colour == day


def test_numbers_are_written_as_yaml_has_it() -> None:
    text = f"leaves: [{{size: 0x1_F}}, {{size: 1:30}}, {{size: {2**63 - 1}}}]"
    leaves = settings_file.parse(text, Tree, source="tree.yaml").leaves
    assert [leaf.size for leaf in leaves] == [31, 90, 2**63 - 1]


NUMBER_BEYOND = "not a whole number of 64 bits; make it smaller"
DEEP = "nested more than 100 levels deep; flatten it"
ENDLESS = "more than 50000 values, or 100 levels; do its aliases refer to themselves?"
UNWANTED = "holds a NUL or half a surrogate pair; leave that out"
HOSTILE = {
    "lists in lists": ("a: 1\nb: " + "[" * 5000, f"2: {DEEP}"),
    "closed lists in lists": ("[" * 5000 + "]" * 5000, f"1: {DEEP}"),
    "mappings in mappings": ("{a: " * 5000 + "1" + "}" * 5000, f"1: {DEEP}"),
    "dashes": ("- " * 5000 + "a", f"1: {DEEP}"),
    "indented": ("".join(" " * level + "a:\n" for level in range(1000)), f"101: {DEEP}"),
    "keys in keys": ("? " * 5000, f"1: {DEEP}"),
    "an alias to itself": ("a: &a [*a]", f"1: {ENDLESS}"),
    "a merge of itself": ("a: &a {<<: *a}", f"1: {ENDLESS}"),
    "aliases that multiply": (
        "a0: &a0 [1]\n"
        + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30)),
        ENDLESS,
    ),
    "merges that multiply": (
        "a0: &a0 {k: 1}\n"
        + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 90)),
        ENDLESS,
    ),
    "aliases that nest": (
        "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 300)),
        ENDLESS,
    ),
    "many values": ("a: [" + "1," * 50_001 + "]", "1: more than 50000 values; leave some out"),
    "a large file": ("# " + "x" * 2**20, " is larger than 1048576 bytes, the most that settings"),
    "a large file of wide characters": ("# " + "\u20ac" * 2**19, " is larger than 1048576 bytes"),
    "digits": ("a: 1\nb: " + "1" * 5001, f"2: {NUMBER_BEYOND}"),
    "65 bits": (f"a: {2**64}", f"1: {NUMBER_BEYOND}"),
    "hexadecimal digits": ("a: 0x" + "f" * 5001, f"1: {NUMBER_BEYOND}"),
    "a number to the base of 60": ("a: " + ":".join(["59"] * 300_000), f"1: {NUMBER_BEYOND}"),
    "a number without digits": ("a: 0x_", f"1: {NUMBER_BEYOND}"),
    "decimals": ("a: 1." + "1" * 5001, "1: a number of over 100 characters; round it"),
    "a tag": ("a: !!int x", "1: tags are not taken; leave out tag:yaml.org,2002:int"),
    "a tag of one's own": ("a: !mine x", "1: tags are not taken; leave out !mine"),
    "a tag that runs": ("!!python/object/apply:os.abort []", "1: tags are not taken"),
    "a merge of a number": ("a: {<<: 5}", "1: not YAML: while constructing a mapping: expected a"),
    "a list for a key": ("leaves: []\n? [a]\n: 1", "2: a key that is a mapping or a list; keys"),
    "a NUL": ("a: 1\nb: \0", "2: not YAML: the character U+0000 is not allowed"),
    "an escaped NUL": ('a: "\\0"', f"1: {UNWANTED}"),
    "half a pair": ("a: \ud800", "1: not YAML: the character U+D800 is not allowed"),
    "an escaped half of a pair": ('"\\ud800": 1', f"1: {UNWANTED}"),
    "no such character": ('a: "\\UFFFFFFFF"', "1: not YAML: "),
    "a version beyond sense": ("%YAML " + "1" * 5001 + ".1\n---\na: 1", "1: not YAML: "),
    "two documents": ("a: 1\n---\nb: 1", "2: not YAML: expected a single document"),
    "an alias to nothing": ("a: *b", "1: not YAML: found undefined alias 'b'"),
    "nothing": ("", " must be a mapping of settings"),
}


@pytest.mark.parametrize(("text", "problem"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_refused_soon_in_a_line(text: str, problem: str) -> None:
    began = time.process_time()
    (line,) = problems_of(text)
    assert line.startswith("tree.yaml:")
    assert problem in line
    assert len(line) < 300
    assert time.process_time() - began < 20


def test_only_so_many_problems_are_told() -> None:
    for text in (
        FINE + "named: {" + ",".join(f"a{n}: {{zzz: 1}}" for n in range(2_000)) + "}",
        FINE + "named: {" + ",".join(f"{n}: {{}}" for n in range(2_000)) + "}",
        FINE + "best: {}\n" * 2_000,
    ):
        *told, last = problems_of(text)
        assert len(told) == 50
        assert last == "tree.yaml: there are more problems than these 50"


def test_long_values_and_keys_are_cut_and_control_characters_are_shown_as_escapes() -> None:
    (line,) = problems_of(FINE + "best: " + "x" * 100_000)
    assert len(line) < 300
    (line,) = problems_of(FINE + "z" * 1000 + ": 1")
    assert len(line) < 300
    (line,) = problems_of(FINE + r'"\e[31m\n": 1')
    assert r": \x1b[31m\n: unknown key" in line


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    file = tmp_path / "tree.yaml"
    for content, problem in (
        (b"leaves: []\na: \xff", f"{file}:2: cannot be read: not UTF-8 text; save it as UTF-8"),
        (b"# " + b"x" * 30_000_000, f"{file}: is larger than 1048576 bytes"),
    ):
        file.write_bytes(content)
        with pytest.raises(Misconfigured) as caught:
            settings_file.read(file, Tree)
        assert caught.value.message.startswith(problem)
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(Misconfigured, match=f"{path}: cannot be read: "):
            settings_file.read(path, Tree)
    with pytest.raises(Misconfigured, match="/dev/zero: is larger than"):
        settings_file.read(Path("/dev/zero"), Tree)


ALPHABET = ":,[]{}-?&*!|>%@`#'\"\\<=~._+ \n\t\r01289abefnoxyUu\0\x07\ufeff\x85\u2028\u00e9"
WORDS = [
    "<<: ",
    "!!int ",
    "---\n",
    "\n- ",
    "\n  ",
    "a: &a ",
    "*a",
    "2024-02-30",
    "0x_",
    "\ud800",
    "9" * 30,
]


def complaint(text: str) -> str | None:
    """What is said of the file, if anything is."""
    try:
        settings_file.parse(text, Tree, source="tree.yaml")
    except Misconfigured as error:
        return error.message
    return None


@given(st.lists(st.sampled_from(WORDS) | st.text(ALPHABET, max_size=5), max_size=20).map("".join))
def test_whatever_is_in_a_file_it_is_settings_or_misconfigured(text: str) -> None:
    for whole in (text, FINE + text, f"leaves: [{{size: {text}}}]", f"named: {{{text}: {{}}}}"):
        assert (complaint(whole) or "tree.yaml:").startswith("tree.yaml:")
