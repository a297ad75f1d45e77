"""Where words begin and end, so that texts of different lengths can be compared word by word.

The boundaries are among those at which members cut their own drafts: a member that goes on from one
is never handed half a word. A space belongs to the word after it. Scripts that do not separate
words are parted between any two characters.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterator
from itertools import takewhile

_INNER = frozenset("'’.,׳״")
_ZERO_WIDTH_JOINER = "\u200d"
_UNSPACED_SCRIPTS = (
    (0x0E00, 0x109F),  # Thai, Lao, Tibetan, Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x312F),  # CJK radicals and punctuation, Hiragana, Katakana, Bopomofo
    (0x31A0, 0xA4CF),  # Bopomofo and Katakana extensions, CJK ideographs, Yi
    (0xF900, 0xFAFF),  # CJK compatibility
    (0xFF66, 0xFF9F),  # halfwidth Katakana
    (0x20000, 0x3FFFF),  # CJK ideographs
)


def first_word(text: str) -> int:
    """Where the first word of a text ends: all of the text if it has but one."""
    return next(_boundaries(text), len(text))


def word_start(text: str, at: int) -> int:
    """Where the word begins that the character at `at` belongs to; `at` itself at a boundary."""
    return max(takewhile(lambda boundary: boundary <= at, _boundaries(text)), default=0)


def common_ground(texts: Collection[str]) -> int:
    """How long the beginning is that all texts share, whole words only. There is at least one."""
    shortest = min(map(len, texts))
    one, *others = texts
    shared = next(
        (i for i in range(shortest) if any(other[i] != one[i] for other in others)), shortest
    )
    return next((at for at in range(shared, 0, -1) if all(_ends_at(t, at) for t in texts)), 0)


def _boundaries(text: str) -> Iterator[int]:
    """The places after the beginning at which a word ends, the text's own end included."""
    return (at for at in range(1, len(text) + 1) if _ends_at(text, at))


def _ends_at(text: str, at: int) -> bool:
    """Whether a word ends at `at`, `0 < at <= len(text)`. The end of a text is taken for one."""
    if at == len(text):
        return True
    left, right = text[at - 1], text[at]
    if left in "\n\r":
        return left + right != "\r\n"
    if left.isspace() or _ZERO_WIDTH_JOINER in {left, right}:
        return False
    if _is_mark(right) or right in "\n\r":
        return False
    if right.isspace():
        return True
    return _parts(text, at)


def _parts(text: str, at: int) -> bool:
    """Whether two characters, neither of them a space, belong to different words."""
    left, right = text[at - 1], text[at]
    if _is_unspaced(left) or _is_unspaced(right):
        return True
    if left in _INNER or right in _INNER:
        before, after = (at - 2, at) if left in _INNER else (at - 1, at + 1)
        if before >= 0 and after < len(text) and text[before].isalnum() and text[after].isalnum():
            return False
    return _is_word(left) != _is_word(right)


def _is_word(char: str) -> bool:
    category = unicodedata.category(char)
    return category[0] in "LNM" or category == "Pc"


def _is_mark(char: str) -> bool:
    return unicodedata.category(char)[0] == "M" or "\U0001f3fb" <= char <= "\U0001f3ff"


def _is_unspaced(char: str) -> bool:
    return any(first <= ord(char) <= last for first, last in _UNSPACED_SCRIPTS)
