"""Where segments end: words, stop strings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_service.core.text import is_word_boundary, last_word_boundary, stop_end


def cut(draft: str) -> str:
    """A draft whose every character is a token, cut."""
    return draft[: last_word_boundary(draft, range(1, len(draft) + 1))]


@pytest.mark.parametrize(
    ("draft", "kept"),
    [
        (" The capital of Fra", " The capital of"),
        (" The answer is 42", " The answer is"),
        (" The answer is ", " The answer is"),
        (" The answer is 42.", " The answer is 42."),
        (" it is 3.1", " it is"),
        (" it is 3.", " it is 3."),
        (" about 12,34", " about"),
        (" I don't", " I"),
        (" I don’t know", " I don’t"),
        (" a well-kno", " a well-"),
        ("self.assertEqual", "self."),
        ("f(some_name", "f("),
        ("def f():\n    retu", "def f():\n"),
        ("def f():\n    ", "def f():\n"),
        ("line\r\n\tx", "line\r\n"),
        ("end.\n\n", "end.\n\n"),
        ("法国的首都是巴", "法国的首都是巴"),
        ("東京のTow", "東京の"),
        ("เมืองหลวงของฝรั่ง", "เมืองหลวงของฝรั่ง"),
        ("done 🎉", "done 🎉"),
        ("one 👨‍👩", "one 👨‍👩"),
        ("one 👨‍👩‍", "one"),
        ("yes 👍🏽", "yes 👍🏽"),
        ("a ❤️", "a ❤️"),
        ("عاصمة فرنسا هي بار", "عاصمة فرنسا هي"),
        ("جدًّا. مَرْحَبً", "جدًّا."),
        ("בירת צרפת היא פר", "בירת צרפת היא"),
        ("राजधानी पेरि", "राजधानी"),
    ],
)
def test_a_draft_is_cut_to_its_last_complete_word(draft: str, kept: str) -> None:
    assert cut(draft) == kept


@pytest.mark.parametrize("draft", ["Paris", " Paris", " ", "   ", "42", "é"])
def test_a_cut_never_leaves_nothing(draft: str) -> None:
    assert cut(draft) == draft


def test_a_place_where_a_token_ends_is_preferred() -> None:
    draft = "one two three four"  # tokens: "one", " two three", " four"
    assert last_word_boundary(draft, [3, 13, 18]) == len("one two three")
    draft = "one two three four"  # tokens: "one", " two three fo", "ur"
    assert last_word_boundary(draft, [3, 16, 18]) == len("one")


def test_within_a_token_if_it_must() -> None:
    assert last_word_boundary("two three fo", [12]) == len("two three")


@given(st.text(max_size=40), st.sets(st.integers(0, 40)))
def test_what_is_kept_is_a_prefix_and_not_empty(draft: str, ends: set[int]) -> None:
    token_ends = sorted(end for end in ends if end <= len(draft))
    kept = last_word_boundary(draft, token_ends)
    assert 0 <= kept <= len(draft)
    assert bool(kept) == bool(draft)


@given(st.text(max_size=40))
def test_what_was_cut_is_not_cut_again_before_what_follows_it(draft: str) -> None:
    kept = cut(draft)
    assert kept == draft or is_word_boundary(draft, len(kept))
    assert cut(f"{kept}\n").rstrip("\n") == kept.rstrip("\n")


@given(st.text(alphabet="法国的首都是巴黎東京タワーのเมือง。、！", max_size=30))
def test_scripts_without_spaces_are_not_cut(draft: str) -> None:
    assert cut(draft) == draft


@pytest.mark.parametrize(
    ("text", "stop", "preceding", "end"),
    [
        ("one STOP two", ["STOP"], "", 8),
        ("one STOP two", ["two", "STOP"], "", 8),
        ("OP two", ["STOP"], "one ST", 2),
        ("P", ["STOP"], "STO", 1),
        ("more", ["STOP"], "STOP", None),
        ("aaa", ["a"], "a", 1),
        ("ab", ["abc"], "", None),
        ("\n\nx", ["\n\n"], "\n", 1),
        ("法国。", ["。"], "", 3),
        ("text", [], "", None),
        ("", ["x"], "x", None),
    ],
)
def test_the_first_stop_string_completed(
    text: str, stop: list[str], preceding: str, end: int | None
) -> None:
    assert stop_end(text, stop, preceding) == end


@given(
    st.text(alphabet="ab", max_size=12),
    st.text(alphabet="ab", max_size=12),
    st.lists(st.text(alphabet="ab", min_size=1, max_size=4), max_size=3),
)
def test_a_stop_string_is_found_however_the_answer_is_split(
    preceding: str, text: str, stop: list[str]
) -> None:
    answer = preceding + text
    ends = [
        end
        for end in range(len(preceding) + 1, len(answer) + 1)
        if any(answer[:end].endswith(string) for string in stop)
    ]
    expected = ends[0] - len(preceding) if ends else None
    assert stop_end(text, stop, preceding) == expected
