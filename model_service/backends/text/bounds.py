"""At least how many tokens a text has, told by its length alone.

A token stands for a piece of the vocabulary, so it covers no more text than the longest piece has,
unless a rule of the tokenizer lets it: unknown words become one token however long, normalizers
shorten, whitespace is dropped. Only what no rule can take away is counted, and where a rule is not
known here there is no bound.

    all bytes            nothing is dropped, shortened or unknown
    visible ASCII        Unicode normalization composes around it, whitespace may be dropped;
                         but no two visible ASCII characters ever become one
    short words' bytes   WordPiece, where the words of all but numbers and whitespace are short
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tokenizers import pre_tokenizers

from model_service.backends.text.rules import Rule, marker, parts, pieces, words

_BYTE_LETTERS = frozenset(pre_tokenizers.ByteLevel.alphabet())
_BYTE_PIECES = frozenset(f"<0x{byte:02X}>" for byte in range(256))
_UTF8_BYTES = 4
_HARMLESS_NORMALIZERS = ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Strip")
_DROPPING_SPACES = ("Whitespace", "WhitespaceSplit", "BertPreTokenizer")
_KEEPING_ALL = ("ByteLevel", "Metaspace", "Digits", "Punctuation", "Split")
_SLICE_CHARACTERS = 1 << 14
_INVISIBLE = bytes([*range(0x21), 0x7F])


@dataclass(frozen=True, slots=True)
class TokenBound:
    """`counted` says how many bytes of a text are certain to be covered, at most `each` a token."""

    each: int
    counted: Callable[[str], int]

    def at_least(self, text: str, enough: int) -> int:
        """A number of tokens that `text` has, or more; of no more text than `enough` tokens need.

        Slice by slice, as threads that answer other calls cannot run while one is counted.
        """
        counted = 0
        for start in range(0, len(text), _SLICE_CHARACTERS):
            counted += self.counted(text[start : start + _SLICE_CHARACTERS])
            if counted >= enough * self.each:
                break
        return -(-counted // self.each)


def bound_of(description: dict[str, Any]) -> TokenBound:
    """The bound that a tokenizer's JSON proves; one that counts nothing if it proves none."""
    each = _most_bytes(description)
    if each is None or not _nothing_visible_is_lost(description):
        return TokenBound(1, _nothing)
    exact = _is_exact(description)
    if description["model"]["type"] == "WordPiece":
        return TokenBound(each, _in_short_words if exact else _nothing)
    return TokenBound(each, _all_bytes if exact else _visible_ascii)


def _nothing(_text: str) -> int:
    return 0


def _all_bytes(text: str) -> int:
    return len(text.encode())


def _visible_ascii(text: str) -> int:
    return len(text.encode("ascii", "ignore").translate(None, _INVISIBLE))


def _in_short_words(text: str) -> int:
    """The bytes of letters, marks, punctuation and symbols."""
    characters = Counter(text).items()
    return sum(
        count * len(char.encode())
        for char, count in characters
        if unicodedata.category(char)[0] in "LMPS"
    )


def _most_bytes(description: dict[str, Any]) -> int | None:
    """The most bytes of normalized text that a token covers; None if one may cover any number.

    The pieces of byte-level vocabularies have a character for each byte.
    """
    model: Rule = description["model"]
    vocab = pieces(model)
    levelled = any(part["type"] == "ByteLevel" for part in parts(description["pre_tokenizer"]))
    match model:
        case {"type": "BPE", "continuing_subword_prefix": None, "end_of_word_suffix": None}:
            known = vocab >= _BYTE_LETTERS if levelled else _falls_back(model, vocab)
        case {"type": "Unigram"}:
            known = not levelled and _falls_back(model, vocab)
        case {"type": "WordPiece", "continuing_subword_prefix": prefix}:
            letters = _BYTE_LETTERS | {prefix + letter for letter in _BYTE_LETTERS}
            known = levelled and vocab >= letters and _has_short_words(description)
        case _:
            known = False
    if not known:
        return None
    added = (len(token["content"].encode()) for token in description["added_tokens"])
    covered = (len(piece) if levelled else len(piece.encode()) for piece in vocab)
    return max((*added, *covered))


def _falls_back(model: Rule, vocab: set[str]) -> bool:
    """Whether every character without a piece becomes bytes, a token each."""
    return bool(model.get("byte_fallback")) and vocab >= _BYTE_PIECES


def _has_short_words(description: dict[str, Any]) -> bool:
    """Whether no word of letters or symbols is so long that WordPiece makes it one token."""
    first, *_ = parts(description["pre_tokenizer"])
    cut = words(first)
    longest = cut.longest if cut else None
    most: int = description["model"]["max_input_chars_per_word"]
    return longest is not None and (longest + 1) * _UTF8_BYTES <= most


def _nothing_visible_is_lost(description: dict[str, Any]) -> bool:
    normalizers, pre = parts(description["normalizer"]), parts(description["pre_tokenizer"])
    return all(map(_keeps_visible, normalizers)) and all(
        part["type"] in (*_KEEPING_ALL, *_DROPPING_SPACES) and part.get("behavior") != "Removed"
        for part in pre
    )


def _keeps_visible(normalizer: Rule) -> bool:
    known = (*_HARMLESS_NORMALIZERS, "BertNormalizer", "Prepend")
    return normalizer["type"] in known or marker(normalizer) is not None


def _is_exact(description: dict[str, Any]) -> bool:
    """Whether every byte of a text is covered by a token, and by no more than its share."""
    return (
        all(_keeps_length(part) for part in parts(description["normalizer"]))
        and all(part["type"] in _KEEPING_ALL for part in parts(description["pre_tokenizer"]))
        and not any(token["lstrip"] or token["rstrip"] for token in description["added_tokens"])
    )


def _keeps_length(normalizer: Rule) -> bool:
    return normalizer["type"] == "Prepend" or marker(normalizer) is not None
