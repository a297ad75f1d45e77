"""Where a text can be cut so that its parts, tokenized one by one, give the tokens of the whole.

That is before a space that follows a letter or digit, for tokenizers that never join the two: not
in their words, nor in a piece of their vocabulary, nor in an added token. Tokenizers of whose rules
that is not certain do not cut at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from model_service.backends.text.rules import Rule, marker, parts, pieces, words

PART_CHARACTERS = 1 << 14
"""A part is at least so long, and ends at the first cut from there on."""

_CUT = re.compile(r"(?<=[^\W_])(?= )")
# Not NFKC and NFKD: they put spaces into letters.
_LOCAL_NORMALIZERS = ("NFC", "NFD", "Lowercase", "StripAccents", "BertNormalizer", "Prepend")
_CUTTING = ("Whitespace", "WhitespaceSplit", "BertPreTokenizer")


def in_parts(text: str) -> Iterator[str]:
    """The text in parts. It must be a tokenizer's that `can_cut`."""
    start = 0
    while match := _CUT.search(text, start + PART_CHARACTERS):
        yield text[start : match.start()]
        start = match.start()
    yield text[start:]


def can_cut(description: dict[str, Any]) -> bool:
    """Whether a tokenizer, by its JSON, is certain to cut before a space after a letter or digit.

    The parts after the first must be tokenized without any space of the tokenizer's own.
    """
    pre = parts(description["pre_tokenizer"])
    return (
        all(map(_is_local, parts(description["normalizer"])))
        and not any(map(_reaches_over, description["added_tokens"]))
        and description["model"].get("dropout") is None
        and all(_cuts(part) or _stays_within(part) for part in pre)
        and (any(map(_cuts, pre)) or _no_piece_reaches_over(description))
    )


def marks_every_section(description: dict[str, Any]) -> bool:
    """Whether the tokenizer may put a space of its own after each special token, not only first."""
    rules = parts(description["normalizer"]) + parts(description["pre_tokenizer"])
    return any(
        rule["type"] == "Prepend"
        or rule.get("prepend_scheme") == "always"
        or rule.get("add_prefix_space", False)
        for rule in rules
    )


def _is_local(normalizer: Rule) -> bool:
    return normalizer["type"] in _LOCAL_NORMALIZERS or marker(normalizer) is not None


def _reaches_over(token: dict[str, Any]) -> bool:
    """Whether an added token looks at what stands around it, or has a cut in its midst."""
    around = token["lstrip"] or token["rstrip"] or token["single_word"]
    spaces = " ▁" if token["normalized"] else " "
    return around or re.search(rf"[^\W_][{spaces}]", token["content"]) is not None


def _cuts(part: Rule) -> bool:
    match part:
        case {"type": "ByteLevel", "use_regex": use_regex}:
            return bool(use_regex)
        case {"type": "Metaspace", "split": split}:
            return bool(split)
        case {"type": "Split"}:
            return words(part) is not None
        case {"type": kind}:
            return kind in _CUTTING
        case _:
            return False


def _stays_within(part: Rule) -> bool:
    """Whether a part that may leave letter and space together cuts regardless of the far side."""
    match part:
        case {"type": "Split", "pattern": {"String": str(char)}, "behavior": "Isolated"}:
            return len(char) == 1
        case {"type": kind}:
            return kind in ("ByteLevel", "Metaspace", "Digits", "Punctuation")
        case _:
            return False


def _no_piece_reaches_over(description: dict[str, Any]) -> bool:
    """Whether merging stops before every marker of a space: no piece has one after other text."""
    model: Rule = description["model"]
    markers = [marker(part) for part in parts(description["normalizer"])]
    markers += [part.get("replacement") for part in parts(description["pre_tokenizer"])]
    known = [char for char in markers if char is not None]
    vocab = pieces(model)
    return (
        model["type"] == "BPE"
        and len(known) == 1
        and known[0] in vocab
        and not any(known[0] in piece.lstrip(known[0]) for piece in vocab)
    )
