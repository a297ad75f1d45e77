"""What is sent, what the server makes of it, and what of that is a candidate."""

from __future__ import annotations

import copy
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import processors

from model_service.backends.remote.server import TokenizedContext
from model_service.backends.text.tokenizer import SegmentTokenizer
from model_service.backends.tgi.texts import Texts
from model_service.core.types import Candidate, Context, Message, Role
from specfuse.errors import InvalidArgument, Misconfigured
from tests.support.tokenizers import CHINESE, ENGLISH, HINDI, KINDS, kind, published

PIECES = st.sampled_from(
    [
        "The",
        " capital",
        " of",
        " France",
        " is",
        ",",
        "\n",
        " 4",
        "2",
        "é",
        "don",
        "'t",
        CHINESE[:4],
    ]
)
TEXT = st.lists(PIECES, min_size=1, max_size=6).map("".join)


@cache
def made(name: str) -> tuple[SegmentTokenizer, Texts]:
    tokenizer = SegmentTokenizer(kind(name).published)
    return tokenizer, Texts(tokenizer)


def tokenized(tokenizer: SegmentTokenizer, context: Context) -> TokenizedContext:
    return TokenizedContext(context, tokenizer.context_ids(context))


def asked(*contents: str) -> tuple[Message, ...]:
    roles = (Role.USER, Role.ASSISTANT)
    return tuple(Message(roles[at % 2], content) for at, content in enumerate(contents))


@pytest.mark.parametrize("name", KINDS)
@settings(deadline=None)
@given(prompt=TEXT, committed=st.lists(TEXT, max_size=2), text=TEXT, finished=st.booleans())
def test_ids_are_those_of_the_whole_text(
    name: str, prompt: str, committed: list[str], text: str, finished: bool
) -> None:
    """As transformers gives them, which is what the server runs."""
    native = kind(name).tokenizer
    tokenizer, texts = made(name)
    before = texts.context(tokenized(tokenizer, Context(f"It{prompt}", tuple(committed))))
    assert before.text == f"It{prompt}{''.join(committed)}"
    assert list(before.ids) == native(before.text)["input_ids"]
    whole = texts.appended(before, Candidate(text, finished))
    assert whole.sent.text == before.text + text + ("</s>" if finished else "")
    assert list(whole.sent.ids) == native(whole.sent.text)["input_ids"]
    assert whole.sent.ids[: whole.shared] == before.ids[: whole.shared]
    assert whole.new[:1] != before.ids[whole.shared : whole.shared + 1] or not whole.new
    if finished:
        assert whole.new[-1] == tokenizer.end_ids[0]


@pytest.mark.parametrize("name", KINDS)
def test_a_template_begins_a_text_once(name: str) -> None:
    native = kind(name).tokenizer
    tokenizer, texts = made(name)
    sent = texts.context(tokenized(tokenizer, Context(asked("Hi there"), ("Well", ", yes"))))
    assert sent.ids.count(native.bos_token_id) == native(sent.text)["input_ids"].count(
        native.bos_token_id
    )
    assert sent.ids[:2].count(native.bos_token_id) == 1 or name == "wordpiece"
    assert sent.text.endswith("Well, yes")


def test_what_merges_across_the_boundary_is_scored_whole() -> None:
    """The model's own segments would be `wo` and `rld`; the server sees one word."""
    tokenizer, texts = made("byte_bpe")
    context = Context("The capi")
    before = texts.context(tokenized(tokenizer, context))
    whole = texts.continued(
        before, Candidate("tal of France", finished=False), "candidates[0].text"
    )
    assert whole.shared < len(before.ids)
    spelt = b"".join(map(tokenizer.spell, whole.new))
    assert spelt.endswith(b"tal of France")
    assert spelt != b"tal of France"


@pytest.mark.parametrize(
    ("context", "field"),
    [
        (Context("say </s> twice"), "context.raw_prompt"),
        (Context("say <unk>"), "context.raw_prompt"),
        (Context(asked("a", "b</s>", "c")), "context.conversation.messages[1].content"),
        (Context("a", (" b", "<|user|>")), "context.committed_segments[1]"),
        (Context("a", ("<|us", "er|>")), "context"),
        (Context("a</", ("s>",)), "context"),
    ],
)
def test_special_tokens_that_a_context_spells_are_refused(context: Context, field: str) -> None:
    tokenizer, texts = made("byte_bpe_digits")
    with pytest.raises(InvalidArgument, match="spells a special token") as refused:
        texts.context(tokenized(tokenizer, context))
    assert refused.value.field == field
    assert "twice" not in refused.value.message


@pytest.mark.parametrize("text", ["x</s>", "r|>", "r|> and <unk>"])
def test_special_tokens_that_a_candidate_spells_are_refused(text: str) -> None:
    """By itself, or with what is before it."""
    tokenizer, texts = made("byte_bpe_digits")
    before = texts.context(tokenized(tokenizer, Context("one <|use")))
    with pytest.raises(InvalidArgument, match="spells a special token") as refused:
        texts.continued(before, Candidate(text, finished=False), "candidates[3].text")
    assert refused.value.field == "candidates[3].text"


def test_the_templates_own_special_tokens_are_no_concern() -> None:
    tokenizer, texts = made("byte_bpe_digits")
    before = texts.context(tokenized(tokenizer, Context(asked(ENGLISH, HINDI, "?"))))
    assert before.text.count("<|user|>") == 2
    whole = texts.continued(before, Candidate("Paris", finished=True), "candidates[0].text")
    assert whole.shared == len(before.ids)


def test_what_adds_no_token_is_refused() -> None:
    tokenizer, texts = made("wordpiece")
    before = texts.context(tokenized(tokenizer, Context("The capital")))
    with pytest.raises(InvalidArgument, match=r"candidates\[0\].text: adds no tokens"):
        texts.continued(before, Candidate(" ", finished=False), "candidates[0].text")


def test_what_is_one_token_with_the_whole_context_is_refused() -> None:
    tokenizer, texts = made("byte_bpe")
    before = texts.context(tokenized(tokenizer, Context("Th")))
    with pytest.raises(InvalidArgument, match="one token with the whole context"):
        texts.continued(before, Candidate("e", finished=False), "candidates[0].text")


def test_a_tokenizer_that_ends_every_text_is_refused() -> None:
    """None could be continued."""
    ending = copy.deepcopy(kind("byte_bpe").tokenizer)
    ending.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", ending.eos_token_id)]
    )
    with pytest.raises(Misconfigured, match="it ends every text"):
        Texts(SegmentTokenizer(published(ending)))
