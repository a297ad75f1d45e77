"""Trains the experts' five tokenizers, which have nothing in common, on text of the questions.

All five cut in front of spaces, so text cut at a word boundary gives the same tokens as the whole.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from specfuse.demo.experts import Architecture, TokenizerKind

CONTEXT_WINDOW = 1024
"""Most tokens an expert takes, prompt and answer together."""

_BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
_SINGLE_DIGITS = r" ?\p{N}| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# Bounded, because matching the longest piece takes a word's length squared.
_SHORT_WORDS = r" ?\p{N}+| ?\p{L}{1,32}| ?[^\s\p{L}\p{N}]{1,32}|\s+(?!\S)|\s+"


@dataclass(frozen=True, slots=True)
class Dialect:
    """The special tokens of an expert, and the template that turns a chat into one string."""

    bos: str
    eos: str
    pad: str
    chat_template: str
    unk: str | None = None
    markers: tuple[str, ...] = ()

    @property
    def special_tokens(self) -> list[str]:
        """All special tokens, each once, in the order of their ids."""
        tokens = (self.pad, self.bos, self.eos, self.unk, *self.markers)
        return [token for token in dict.fromkeys(tokens) if token is not None]


class Tokenized(Protocol):
    """What says which tokenizer an expert has."""

    @property
    def architecture(self) -> Architecture:
        """Whose special tokens and chat template it has."""

    @property
    def tokenizer(self) -> TokenizerKind:
        """How it cuts text into tokens."""

    @property
    def vocab_size(self) -> int:
        """How many pieces it learns."""


def train_tokenizer(expert: Tokenized, texts: Sequence[str]) -> PreTrainedTokenizerBase:
    """Trains the tokenizer of `expert`. The same texts always give the same tokenizer."""
    dialect = DIALECTS[expert.architecture]
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=_TRAINERS[expert.tokenizer](texts, dialect, expert.vocab_size),
        bos_token=dialect.bos,
        eos_token=dialect.eos,
        pad_token=dialect.pad,
        unk_token=dialect.unk,
        additional_special_tokens=list(dialect.markers),
        chat_template=dialect.chat_template,
        model_max_length=CONTEXT_WINDOW,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def encode_piece(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Encodes text from the middle of an answer: the ids that add exactly `text`, and nothing else.

    A special token goes in front and is taken off again, as some tokenizers would otherwise put a
    space before text that stands first.
    """
    return encode_pieces(tokenizer, [text])[0]


def encode_pieces(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> list[list[int]]:
    """Encodes each text like `encode_piece`."""
    guarded = [f"{tokenizer.eos_token}{text}" for text in texts]
    return [ids[1:] for ids in tokenizer(guarded, add_special_tokens=False)["input_ids"]]


# --- the five kinds -----------------------------------------------------------------------------


def _byte_bpe(
    texts: Iterable[str], dialect: Dialect, vocab_size: int, pattern: str | None = None
) -> Tokenizer:
    """Byte-level BPE. `pattern` cuts text into words; None stands for that of GPT-2."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = _byte_words(pattern)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=dialect.special_tokens,
        initial_alphabet=_BYTES,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _byte_words(pattern: str | None) -> pre_tokenizers.PreTokenizer:
    if pattern is None:
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _byte_bpe_digits(texts: Iterable[str], dialect: Dialect, vocab_size: int) -> Tokenizer:
    return _byte_bpe(texts, dialect, vocab_size, _SINGLE_DIGITS)


def _unigram(texts: Iterable[str], dialect: Dialect, vocab_size: int) -> Tokenizer:
    """Unigram as SentencePiece has it: `▁` marks a space, and unknown characters become bytes.

    Its pieces are those BPE finds, each as probable as it is frequent in the texts, and all bytes,
    so improbable that they are the last resort.
    """
    seed = _metaspace_bpe(texts, vocab_size)
    counts = Counter(piece for text in texts for piece in seed.encode(text).tokens)
    total = counts.total() + seed.get_vocab_size()
    pieces = [(p, math.log((counts[p] + 1) / total)) for p in sorted(seed.get_vocab())]
    improbable = -2 * math.log(total)
    last_resort = [*dialect.special_tokens, *(f"<0x{byte:02X}>" for byte in range(256))]
    vocab = [*((token, improbable) for token in last_resort), *pieces]
    # The library wants one before it falls back to bytes, of which all are there: it never comes.
    unk_id = last_resort.index(dialect.unk or dialect.pad)
    tokenizer = Tokenizer(models.Unigram(vocab, unk_id=unk_id, byte_fallback=True))
    tokenizer.pre_tokenizer = seed.pre_tokenizer
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return tokenizer


def _metaspace_bpe(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split("\n", behavior="isolated"),
            pre_tokenizers.Metaspace(prepend_scheme="first"),
            pre_tokenizers.Punctuation(behavior="isolated"),
        ]
    )
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _wordpiece(texts: Iterable[str], dialect: Dialect, vocab_size: int) -> Tokenizer:
    """WordPiece over bytes: the longest piece first, `##` marks one that goes on with a word.

    Every byte is a piece of both kinds, so nothing is ever unknown.
    """
    trained = Tokenizer(models.WordPiece(unk_token=dialect.unk))
    trained.pre_tokenizer = _byte_words(_SHORT_WORDS)
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        special_tokens=[*dialect.special_tokens, *_BYTES, *(f"##{byte}" for byte in _BYTES)],
        show_progress=False,
    )
    trained.train_from_iterator(texts, trainer)
    # Built anew from the pieces, as the trainer takes single bytes for special tokens.
    vocab = trained.get_vocab(with_added_tokens=True)
    tokenizer = Tokenizer(
        models.WordPiece(vocab, unk_token=dialect.unk, max_input_chars_per_word=1024)
    )
    tokenizer.pre_tokenizer = trained.pre_tokenizer
    tokenizer.decoder = decoders.Sequence([decoders.Replace("##", ""), decoders.ByteLevel()])
    return tokenizer


_TRAINERS: dict[TokenizerKind, Callable[[Iterable[str], Dialect, int], Tokenizer]] = {
    TokenizerKind.BYTE_BPE: _byte_bpe,
    TokenizerKind.BYTE_BPE_DIGITS: _byte_bpe_digits,
    TokenizerKind.UNIGRAM: _unigram,
    TokenizerKind.WORDPIECE: _wordpiece,
}


# --- the five dialects --------------------------------------------------------------------------

DIALECTS: dict[Architecture, Dialect] = {
    Architecture.LLAMA: Dialect(
        bos="<|begin|>",
        eos="<|end|>",
        pad="<|pad|>",
        markers=("<|system|>", "<|user|>", "<|assistant|>"),
        chat_template="{{ bos_token }}{% for m in messages %}"
        "{{ '<|' + m['role'] + '|>' + m['content'] + eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}",
    ),
    Architecture.GRANITE: Dialect(
        bos="<|im_start|>",
        eos="<|im_end|>",
        pad="<|endoftext|>",
        chat_template="{% for m in messages %}"
        "{{ bos_token + m['role'] + '\\n' + m['content'] + eos_token + '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ bos_token + 'assistant\\n' }}{% endif %}",
    ),
    Architecture.GPT_NEOX: Dialect(
        bos="<|endoftext|>",
        eos="<|endoftext|>",
        pad="<|padding|>",
        chat_template="{% for m in messages %}"
        "{% if m['role'] == 'system' %}{{ m['content'] + '\\n\\n' }}"
        "{% elif m['role'] == 'user' %}{{ 'Question: ' + m['content'] + '\\n' }}"
        "{% else %}{{ 'Answer:\\n' + m['content'] + eos_token + '\\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'Answer:\\n' }}{% endif %}",
    ),
    Architecture.GEMMA2: Dialect(
        bos="<bos>",
        eos="<end_of_turn>",
        pad="<pad>",
        unk="<unk>",
        markers=("<start_of_turn>",),
        chat_template="{{ bos_token }}{% for m in messages %}"
        "{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\\n'"
        " + m['content'] + eos_token + '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}",
    ),
    Architecture.MISTRAL: Dialect(
        bos="<s>",
        eos="</s>",
        pad="<pad>",
        unk="<unk>",
        markers=("[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
        chat_template="{{ bos_token }}{% for m in messages %}"
        "{% if m['role'] == 'user' %}{{ '[INST]' + m['content'] + '[/INST]' }}"
        "{% elif m['role'] == 'system' %}"
        "{{ '[SYSTEM_PROMPT]' + m['content'] + '[/SYSTEM_PROMPT]' }}"
        "{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}",
    ),
}
