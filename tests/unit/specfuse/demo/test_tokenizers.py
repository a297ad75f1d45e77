"""The experts' tokenizers: lossless, indifferent to word cuts, and apt for fusing answers."""

from __future__ import annotations

import re
from itertools import pairwise
from types import SimpleNamespace

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from model_service.backends.text.tokenizer import SegmentTokenizer
from model_service.core.types import Context, Message, Role
from specfuse.demo.examples import corpus
from specfuse.demo.experts import EXPERTS, Architecture, TokenizerKind
from specfuse.demo.skills import SKILLS, SkillName, generate_questions
from specfuse.demo.tokenizers import DIALECTS, encode_piece, train_tokenizer
from tests.support.tokenizers import published

TEXTS = [
    "In France, Paris is the capital city, and any good atlas ...",
    "árbol, niño, azúcar",
    "def f(x):\n    return x ** 2  # two  spaces\n\n\tend\n",
    "Ähnliches 日本語のテキスト и русский, עברית",
    "👩‍👩‍👧 😀 #hash ##hash ###",
    "0 12 345 6.789",
]
USER = {"role": "user", "content": "What is the capital of Peru?"}
ASSISTANT = {"role": "assistant", "content": "In Peru, Lima is the capital city."}
SYSTEM = {"role": "system", "content": "You are a helpful assistant."}


@pytest.fixture(scope="module", params=EXPERTS, ids=lambda expert: expert.name)
def expert(request):
    return request.param


@pytest.fixture(scope="module")
def tokenizer(expert):
    return AutoTokenizer.from_pretrained(expert.path)


def decode_piece(tokenizer, ids):
    """The text that `ids` add to an answer: a word goes before them and is taken off again."""
    before = encode_piece(tokenizer, "is")
    return tokenizer.decode([*before, *ids]).removeprefix("is")


@pytest.mark.parametrize("text", TEXTS)
def test_text_survives_encoding(tokenizer, text):
    assert decode_piece(tokenizer, encode_piece(tokenizer, text)) == text
    assert decode_piece(tokenizer, encode_piece(tokenizer, f" {text}")) == f" {text}"


def test_what_is_loaded_is_what_was_saved(expert, tokenizer):
    """Loading must not replace the saved rules by those usual for the model's architecture."""
    saved = Tokenizer.from_file(str(expert.path / "tokenizer.json"))
    questions = generate_questions(8, 50)
    texts = [text for question in questions for text in (question.prompt, question.answer)] + TEXTS
    for text in texts:
        assert tokenizer(text)["input_ids"] == saved.encode(text).ids


def test_training_is_deterministic(expert):
    texts = corpus(0, 100)
    once, again = (train_tokenizer(expert, texts) for _ in range(2))
    assert once.get_vocab() == again.get_vocab()
    sample = texts[:20]
    assert once(sample)["input_ids"] == again(sample)["input_ids"]


def test_a_text_cut_before_spaces_gives_the_same_tokens(tokenizer):
    for question in generate_questions(3, 20):
        whole = encode_piece(tokenizer, question.answer)
        pieces = re.split(r"(?= )", question.answer)
        assert [i for piece in pieces for i in encode_piece(tokenizer, piece)] == whole


def test_training_encodes_answers_as_the_model_service_does(tokenizer):
    segments = SegmentTokenizer(published(tokenizer))
    context = Context(prompt=(Message(Role.USER, USER["content"]),))
    (question,) = generate_questions(3, 1, parts=5)
    ids = segments.segment_ids(question.answer, context)
    assert list(ids) == encode_piece(tokenizer, question.answer)


def test_answer_words_lie_far_apart(tokenizer):
    """Two answer words in a segment of ten tokens could be half right; so they never meet."""
    for question in generate_questions(4, 40, parts=5):
        positions, at = [], 0
        for part in question.parts:
            at += len(encode_piece(tokenizer, f" {part.lead}"))
            word = encode_piece(tokenizer, f" {part.answer}")
            positions += [at, at + len(word)]
            at = positions[-1] + len(encode_piece(tokenizer, part.tail))
        gaps = [start - end for end, start in pairwise(positions)][1::2]
        assert min(gaps) >= 12


def test_answer_words_are_short(tokenizer):
    for skill in SKILLS.values():
        lengths = [len(encode_piece(tokenizer, f" {word}")) for word in skill.answers]
        assert sum(lengths) / len(lengths) < 4
        assert max(lengths) <= 7


def test_digits_are_split_for_sums_only():
    split = {
        expert.skill
        for expert in EXPERTS
        if len(encode_piece(AutoTokenizer.from_pretrained(expert.path), " 34")) > 1
    }
    assert split == {SkillName.SUMS}


@pytest.mark.parametrize("system", [[], [SYSTEM]], ids=["bare", "system"])
def test_the_template_takes_any_conversation(tokenizer, system):
    messages = [*system, USER, ASSISTANT, USER]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    for message in messages:
        assert message["content"] in text
    assert f"{ASSISTANT['content']}{tokenizer.eos_token}" in text
    without = tokenizer.apply_chat_template(messages[:-1], tokenize=False)
    assert text.startswith(without.rstrip("\n"))


def test_no_two_templates_are_alike():
    templates = {dialect.chat_template for dialect in DIALECTS.values()}
    assert len(templates) == len(EXPERTS)


def test_special_tokens_are_single_tokens(tokenizer):
    special = [tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token]
    assert None not in special
    assert tokenizer.pad_token != tokenizer.eos_token
    for token in special:
        assert len(tokenizer(token, add_special_tokens=False)["input_ids"]) == 1


@pytest.mark.parametrize("architecture", Architecture)
def test_unigram_has_every_character_whatever_its_special_tokens(architecture):
    made = SimpleNamespace(
        architecture=architecture, tokenizer=TokenizerKind.UNIGRAM, vocab_size=100
    )
    tokenizer = train_tokenizer(made, corpus(0, 50))
    for text in (" n / 7", " # 漢", "☃"):
        ids = encode_piece(tokenizer, text)
        assert tokenizer.pad_token_id not in ids
        assert tokenizer.decode(ids).strip() == text.strip()
