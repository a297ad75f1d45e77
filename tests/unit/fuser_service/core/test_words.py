"""Where words begin and end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuser_service.core.words import common_ground, first_word, sentence_end, word_start
from model_service.core.text import is_word_boundary

TEXTS = st.text(alphabet=" ab.'1\n水", max_size=12)


@pytest.mark.parametrize(
    ("text", "first"),
    [
        (" black. The", " black"),
        ("black when", "black"),
        (". The", "."),
        (" don't go", " don't"),
        (" 3.14 is", " 3.14"),
        ("\nx = 1", "\n"),
        ("水と火", "水"),
        (" हिन्दी में", " हिन्दी"),
        ("水'火x", "水'火"),
        (" ... and", " ..."),
        ("word", "word"),
        ("", ""),
    ],
)
def test_the_first_word(text: str, first: str) -> None:
    assert text[: first_word(text)] == first


@pytest.mark.parametrize(
    ("texts", "shared"),
    [
        ((" The usual color", " The usual hue"), " The usual"),
        ((" black.", " black when"), " black"),
        ((" Buda.", " Budapest"), ""),
        ((" a", ""), ""),
        ((" a b", " a b"), " a b"),
    ],
)
def test_common_ground_is_of_whole_words(texts: tuple[str, ...], shared: str) -> None:
    assert texts[0][: common_ground(texts)] == shared


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("One two. Three", "One two."),
        ("It is 3.5 m. So", "It is 3.5 m."),
        ('"Really?" he said', '"Really?"'),
        ("one\ntwo", "one\n"),
        ("好。再", "好。"),
        ("One two, three", None),
        ("'", None),
        ("", None),
    ],
)
def test_sentences_end_at_their_marks(text: str, sentence: str | None) -> None:
    end = sentence_end(text)
    assert (None if end is None else text[:end]) == sentence


@given(TEXTS)
def test_a_sentence_ends_where_a_word_does(text: str) -> None:
    end = sentence_end(text)
    assert end is None or word_start(text, end) == end


@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_common_ground_is_common_and_has_no_order(texts: list[str]) -> None:
    length = common_ground(texts)
    assert len({text[:length] for text in texts}) == 1
    assert common_ground(texts[::-1]) == length


@given(TEXTS, st.data())
def test_a_word_starts_at_or_before_each_of_its_characters(text: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(text)))
    start = word_start(text, at)
    assert 0 <= start <= at
    assert word_start(text, start) == start


@given(st.text(alphabet=" ab.,'’1\n\r\t\u2028水กខ\u200d\u0301ि्न👍\U0001f3fd-=_\u1a20ｶ", max_size=8))
def test_model_services_cut_drafts_at_all_of_these_places(text: str) -> None:
    length = first_word(text)
    assert length == len(text) or is_word_boundary(text, length)
    for at in range(1, len(text)):
        if word_start(text, at) == at:
            assert is_word_boundary(text, at)
