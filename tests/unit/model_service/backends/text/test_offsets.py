"""Where tokens begin: at characters, one after another, whatever the tokenizer."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_service.backends.text.offsets import of_spans, of_spelling
from model_service.backends.text.tokenizer import SegmentTokenizer
from model_service.core.types import Candidate, Context, Message, Role
from specfuse.errors import InvalidArgument
from tests.support.tokenizers import KINDS, TEXTS, kind

TOKENIZERS = {name: SegmentTokenizer(kind(name).published) for name in KINDS}
CONTEXTS = (
    Context("x"),
    Context("x "),
    Context((Message(Role.USER, "Hi"),)),
    Context("x", ("It", " is\n")),
)

texts = st.one_of(
    st.text(max_size=30),
    st.sampled_from([*TEXTS.values()]),
    st.lists(st.sampled_from([" ", "\n", "a", "é", "e\u0301", "ﬁ", "</s>", "𐍈", "42"])).map(
        "".join
    ),
)


@given(st.sampled_from(KINDS), st.sampled_from(CONTEXTS), texts, st.booleans())
@settings(deadline=None)
def test_tokens_begin_at_characters_in_order_and_the_first_with_the_text(
    name: str, context: Context, text: str, finished: bool
) -> None:
    tokenizer = TOKENIZERS[name]
    try:
        ids = tokenizer.segment_ids(text, context)
    except InvalidArgument:  # a character that is a special token
        return
    offsets = tokenizer.offsets(Candidate(text, finished), context)
    written = text.encode()
    assert len(offsets) == len(ids) + finished
    assert all(one <= other for one, other in pairwise((0, *offsets, len(written))))
    if ids:
        assert offsets[0] == 0
    if finished:
        assert offsets[-1] == len(written)
    for offset in offsets:
        written[:offset].decode()


@given(st.sampled_from([name for name in KINDS if kind(name).lossless]), st.data())
@settings(deadline=None)
def test_what_is_before_a_token_is_what_the_tokens_before_it_spell(
    name: str, data: st.DataObject
) -> None:
    text = data.draw(st.sampled_from([*TEXTS.values()]))
    context, tokenizer = Context("x"), TOKENIZERS[name]
    draft = tokenizer.draft(context)
    offsets = tokenizer.offsets(Candidate(text, finished=False), context)
    for token, offset in zip(tokenizer.segment_ids(text, context), offsets, strict=True):
        assert draft.text.encode() == text.encode()[:offset]
        draft.append(token)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("byte_bpe", "𐍈a", (0, 0, 0, 0, 4)),
        ("metaspace_unigram", "𐍈𐍉", (0, 0, 0, 0, 4, 4, 4, 4)),
        ("wordpiece", "is, is", (0, 2, 3)),
        ("wordpiece", "𐍈  is", (0, 4)),
    ],
)
def test_by_hand(name: str, text: str, expected: tuple[int, ...]) -> None:
    context = Context("x", ("It",))
    assert TOKENIZERS[name].offsets(Candidate(text, finished=False), context) == expected


def test_halves_of_a_character_begin_where_it_does() -> None:
    assert of_spelling("né", [b"n\xc3", b"\xa9"]) == (0, 1)
    assert of_spans("né", [(0, 2), (1, 2)]) == (0, 1)


def test_pieces_that_spell_something_else_say_nothing() -> None:
    assert of_spelling("a", [b"b"]) is None
    assert of_spelling("", []) == ()


def test_what_no_token_is_from_belongs_to_the_next() -> None:
    assert of_spans("a  b", [(0, 1), (3, 4)]) == (0, 1)
