"""Where a drafted segment ends, so that models sharing no tokenizer can go on from each other.

A model drafts tokens; what travels is text. A draft that met its token limit is cut back to the
last place where a word is complete, because a half word that another model has to finish is encoded
by that model in a way it has never seen. Three decisions shape the rules below:

- A space belongs to the word after it, as in nearly every tokenizer, so a cut falls before it and a
  segment never ends in one. A line break belongs to the line it ends, so a cut falls after it.
- A place where one of the drafted tokens ends is preferred. What is kept is then a prefix of the
  draft in tokens as well as in text, and the model continues exactly as if it had never been cut.
  Within a token, what is kept of it is encoded anew.
- A cut never leaves nothing: if there is no such place the draft is kept as it is.

Scripts that do not separate words (Chinese, Japanese, Thai, ...) may be cut between any two
characters, so a draft in them never needs shortening.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import chain

_LINE_BREAKS = frozenset("\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029")
_APOSTROPHES = frozenset("'’׳״")
_NUMBER_SEPARATORS = frozenset(".,")
_ZERO_WIDTH_JOINER = "\u200d"
_UNSPACED_SCRIPTS = (
    (0x0E00, 0x109F),  # Thai, Lao, Tibetan, Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19FF),  # Tai Le, New Tai Lue, Khmer symbols
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x2E80, 0x312F),  # CJK radicals and punctuation, Hiragana, Katakana, Bopomofo
    (0x31A0, 0xA4CF),  # Bopomofo and Katakana extensions, CJK ideographs, Yi
    (0xA9E0, 0xA9FF),  # Myanmar extension
    (0xAA60, 0xAADF),  # Myanmar extension, Tai Viet
    (0xF900, 0xFAFF),  # CJK compatibility
    (0xFF66, 0xFF9F),  # halfwidth Katakana
    (0x1AFF0, 0x1B2FF),  # Kana supplements, Nushu
    (0x20000, 0x3FFFF),  # CJK ideographs
)


def last_word_boundary(text: str, token_ends: Sequence[int]) -> int:
    """How much of a draft to keep.

    Args:
        text: the draft's text.
        token_ends: positions in `text` where one of its tokens ends, ascending.

    Returns:
        The last of `token_ends` at which a word is complete; failing that, of all positions (tokens
        may span words); failing that, all of `text`.
    """
    positions = chain(reversed(token_ends), range(len(text), 0, -1))
    boundaries = (at for at in positions if at and is_word_boundary(text, at))
    return next(boundaries, len(text))


def is_word_boundary(text: str, at: int) -> bool:
    """Whether a segment ending at `at`, `0 < at <= len(text)`, parts nothing that belongs together.

    At the end of `text` nobody knows what follows: a letter or digit there may be half a word.
    """
    left = text[at - 1]
    if left in _LINE_BREAKS:
        return text[at - 1 : at + 1] != "\r\n"
    if left.isspace() or left == _ZERO_WIDTH_JOINER:
        return False
    in_word = _is_of_spaced_word(_base(text, at))
    if at == len(text):
        return not in_word
    return not _are_joined(text, at, in_word=in_word)


def _are_joined(text: str, at: int, *, in_word: bool) -> bool:
    """Whether the character at `at` goes on with what is before it, a word if `in_word`."""
    right = text[at]
    if right == _ZERO_WIDTH_JOINER or _is_mark(right):
        return True
    if in_word and _is_of_spaced_word(right):
        return True
    return _is_inner_punctuation(text, at - 1) or _is_inner_punctuation(text, at)


def _is_inner_punctuation(text: str, at: int) -> bool:
    """Whether the character at `at` is the apostrophe of "don't" or the point of "3.14"."""
    if not 0 < at < len(text) - 1:
        return False
    before, char, after = text[at - 1], text[at], text[at + 1]
    if char in _APOSTROPHES:
        return before.isalpha() and after.isalpha()
    return char in _NUMBER_SEPARATORS and before.isdigit() and after.isdigit()


def _base(text: str, end: int) -> str:
    """The last character of `text[:end]` that is no mark, or else the first."""
    return next((char for char in reversed(text[:end]) if not _is_mark(char)), text[0])


def _is_of_spaced_word(char: str) -> bool:
    """Whether `char` is part of words that their script separates by spaces."""
    category = unicodedata.category(char)
    return (category[0] in "LN" or category == "Pc") and not _is_unspaced(char)


def _is_mark(char: str) -> bool:
    """Whether `char` modifies the one before it: an accent, a vowel sign, a skin tone."""
    return unicodedata.category(char)[0] == "M" or "\U0001f3fb" <= char <= "\U0001f3ff"


def _is_unspaced(char: str) -> bool:
    return any(first <= ord(char) <= last for first, last in _UNSPACED_SCRIPTS)


def stop_end(text: str, stop: Sequence[str], preceding: str = "") -> int | None:
    """Where in `text` the first of the `stop` strings is completed, or None.

    A stop string may have begun in `preceding`, the answer before `text`. One completed there
    already is not reported.
    """
    ends = (_completion(text, string, preceding) for string in stop)
    return min((end for end in ends if end is not None), default=None)


def _completion(text: str, string: str, preceding: str) -> int | None:
    reach = len(string) - 1
    before = preceding[-reach:] if reach else ""
    found = (before + text).find(string)
    return None if found < 0 else found + len(string) - len(before)
