"""Small real tokenizers of every kind, trained on a few lines of many scripts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from model_service.backends.text.published import PublishedTokenizer

ENGLISH = (
    "The capital of France is Paris, and 42 + 17 = 59; isn't that so? Yes: 3.14 is not 3,140.\n"
    'A well-known model, asked twice (on 2024-01-31), answered: "I don\'t know."\n\n'
    "Then it went on, quietly, to finish what had been begun."
)
CODE = (
    "def area(radius: float) -> float:\n    if radius < 0:\n        raise ValueError('negative')\n"
    "    return 3.14159 * radius ** 2\n\n\nclass Shape:\n\tname_of_it = None\r\n    x=[1,22,333]\n"
)
CHINESE = "法国的首都是巴黎。四十二加十七等于五十九,这是对的吗?是的!大语言模型一段一段地写出答案。"
JAPANESE = "フランスの首都はパリです。東京タワーの高さは333メートルで、とても有名です。"
THAI = "เมืองหลวงของฝรั่งเศสคือปารีส"
EMOJI = "Great 👍🏽! A family 👨‍👩‍👧‍👦, a flag 🇫🇷, a heart ❤️ and a keycap 1️⃣ — done 🎉🎉."
ARABIC = "عاصمة فرنسا هي باريس، وهي مدينة جميلة جدًّا. مَرْحَبًا بكم في 42 مكتبة."
HEBREW = "בירת צרפת היא פריז, והיא עיר יפה מאוד. שָׁלוֹם לכם, צה״ל ו־42 ספרים."
HINDI = "फ़्रांस की राजधानी पेरिस है और यह एक सुंदर शहर है।"

TEXTS = {
    "english": ENGLISH,
    "code": CODE,
    "chinese": CHINESE,
    "japanese": JAPANESE,
    "thai": THAI,
    "emoji": EMOJI,
    "arabic": ARABIC,
    "hebrew": HEBREW,
    "hindi": HINDI,
}

_CORPUS = [ENGLISH, CODE, *list(TEXTS.values())] * 4
_SPECIALS = ["<unk>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>", "<|im_end|>"]
_BYTE_PIECES = [f"<0x{byte:02X}>" for byte in range(256)]
_SINGLE_DIGITS = r"\p{N}| ?\p{L}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

_ROLE_TEMPLATE = (
    "{{ '<s>' }}{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '</s>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
_CHATML_TEMPLATE = (
    "{% for m in messages %}{{ '<s>' + m['role'] + '\\n' + m['content'] + '</s>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s>assistant\\n' }}{% endif %}"
)
_INST_TEMPLATE = (
    "{{ '<s>' }}{% for m in messages %}{% if m['role'] == 'user' %}"
    "{{ '[INST] ' + m['content'] | trim + ' [/INST]' }}{% elif m['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% else %}"
    "{{ ' ' + m['content'] + ' </s>' }}{% endif %}{% endfor %}"
)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of tokenizer. `lossless`: encoding any text and decoding it gives the text again."""

    name: str
    tokenizer: PreTrainedTokenizerFast
    lossless: bool = True

    @property
    def published(self) -> PublishedTokenizer:
        """The same, as what tokenizes segments takes it."""
        return published(self.tokenizer)


def published(tokenizer: PreTrainedTokenizerFast) -> PublishedTokenizer:
    """One of transformers' tokenizers, as what tokenizes segments takes it."""
    return PublishedTokenizer(
        tokenizer.backend_tokenizer, tokenizer.special_tokens_map, tokenizer.chat_template
    )


KINDS = (
    "byte_bpe",
    "byte_bpe_digits",
    "metaspace_unigram",
    "llama2_bpe",
    "superword_bpe",
    "wordpiece",
)


@cache
def kind(name: str) -> Kind:
    """The tokenizer of this kind, trained once a process."""
    return _BUILDERS[name]()


def kinds() -> list[Kind]:
    """All kinds."""
    return [kind(name) for name in KINDS]


def byte_bpe() -> Kind:
    """GPT-2's rules: runs of digits stay together, a leading space belongs to the word."""
    backend = _trained_byte_bpe(pre_tokenizers.ByteLevel(add_prefix_space=False))
    return Kind("byte_bpe", _wrapped(backend, _CHATML_TEMPLATE))


def byte_bpe_digits() -> Kind:
    """Every digit alone, runs of spaces as added tokens, a beginning token before every text."""
    backend = _trained_byte_bpe(
        pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_SINGLE_DIGITS), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    )
    backend.add_tokens([AddedToken(" " * count, normalized=False) for count in (8, 4)])
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", backend.token_to_id("<s>"))]
    )
    return Kind("byte_bpe_digits", _wrapped(backend, _ROLE_TEMPLATE))


def metaspace_unigram() -> Kind:
    """SentencePiece's Unigram: a marker before every word, the first of every part included."""
    backend = Tokenizer(models.Unigram())
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    trainer = trainers.UnigramTrainer(
        vocab_size=900, special_tokens=_SPECIALS, unk_token="<unk>", show_progress=False
    )
    backend.train_from_iterator(_CORPUS, trainer)
    model = json.loads(backend.to_str())["model"]
    least = min(score for _, score in model["vocab"]) - 1
    vocab = [*map(tuple, model["vocab"]), *((piece, least) for piece in _BYTE_PIECES)]
    backend.model = models.Unigram(vocab, unk_id=model["unk_id"], byte_fallback=True)
    backend.decoder = decoders.Sequence(
        [
            decoders.ByteFallback(),
            decoders.Metaspace(prepend_scheme="always"),
        ]
    )
    return Kind("metaspace_unigram", _wrapped(backend, _ROLE_TEMPLATE))


def llama2_bpe() -> Kind:
    """Llama 2's form: the marker is put there by normalization, unknown characters are bytes."""
    words = pre_tokenizers.Metaspace(prepend_scheme="always")
    return Kind("llama2_bpe", _wrapped(_sentencepiece_bpe(words), _INST_TEMPLATE))


def superword_bpe() -> Kind:
    """Like Llama 2's, but its tokens may span words: word boundaries fall inside tokens."""
    chunks = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split("\n", behavior="isolated"),
            pre_tokenizers.Metaspace(prepend_scheme="always", split=False),
        ]
    )
    return Kind("superword_bpe", _wrapped(_sentencepiece_bpe(chunks), _INST_TEMPLATE))


def wordpiece() -> Kind:
    """BERT's rules: whitespace is lost, unknown characters are too."""
    backend = Tokenizer(models.WordPiece(unk_token="<unk>"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=900, special_tokens=_SPECIALS, show_progress=False
    )
    backend.train_from_iterator(_CORPUS, trainer)
    return Kind("wordpiece", _wrapped(backend, _ROLE_TEMPLATE), lossless=False)


def _trained_byte_bpe(words: pre_tokenizers.PreTokenizer) -> Tokenizer:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = words
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        special_tokens=_SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(_CORPUS, trainer)
    return backend


def _sentencepiece_bpe(trained_on: pre_tokenizers.PreTokenizer) -> Tokenizer:
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = trained_on
    learner.train_from_iterator(
        [ENGLISH, CODE, ARABIC, HEBREW] * 4,
        trainers.BpeTrainer(
            vocab_size=700, special_tokens=[*_SPECIALS, *_BYTE_PIECES], show_progress=False
        ),
    )
    model = json.loads(learner.to_str())["model"]
    backend = Tokenizer(
        models.BPE(
            vocab=model["vocab"],
            merges=[tuple(pair) for pair in model["merges"]],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    backend.normalizer = normalizers.Sequence(
        [
            normalizers.Prepend("▁"),
            normalizers.Replace(" ", "▁"),
        ]
    )
    backend.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    backend.add_special_tokens(_SPECIALS)
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", backend.token_to_id("<s>"))]
    )
    return backend


def _wrapped(backend: Tokenizer, chat_template: str) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        chat_template=chat_template,
        clean_up_tokenization_spaces=False,
    )


_BUILDERS = {
    "byte_bpe": byte_bpe,
    "byte_bpe_digits": byte_bpe_digits,
    "metaspace_unigram": metaspace_unigram,
    "llama2_bpe": llama2_bpe,
    "superword_bpe": superword_bpe,
    "wordpiece": wordpiece,
}
