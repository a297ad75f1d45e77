"""Where words begin and end, so that texts of different lengths can be compared word by word.

The boundaries are among those at which model services cut drafts, so a member that goes on from one
is never handed half a word: a test holds this against their rule, which a core cannot import. They
are fewer, as a run of punctuation is one word here. A space belongs to the word after it. Scripts
that do not separate words are parted between any two characters.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterator

_APOSTROPHES = frozenset("'’׳״")
_POINTS = frozenset(".,")
_SENTENCE_ENDS = frozenset(".!?;\n\r…。！？؟।")
_LINE_ENDS = frozenset("\n\r")
_CLOSING = "\"'”’»)]"
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
_FIRST_UNSPACED = _UNSPACED_SCRIPTS[0][0]
_PLAIN = frozenset(char for char in map(chr, range(128)) if char.isalnum())


def first_word(text: str) -> int:
    """Where the first word of a text ends: all of the text if it has but one."""
    return next(_boundaries(text), len(text))


def word_start(text: str, at: int) -> int:
    """Where the word begins that the character at `at` belongs to; `at` itself at a boundary."""
    return next((end for end in range(min(at, len(text)), 0, -1) if _ends_at(text, end)), 0)


def sentence_end(text: str) -> int | None:
    """Where the first sentence of a text ends; None if it goes on beyond the text."""
    if _SENTENCE_ENDS.isdisjoint(text):
        return None
    ends = (at for at in range(1, len(text) + 1) if _ends_sentence(text, at))
    return next((at for at in ends if _ends_at(text, at)), None)


def begins_sentence(before: str) -> bool:
    """Whether what comes after this text, but for space, begins a sentence."""
    said = before.rstrip()
    ended = not said or _ends_sentence(said, len(said))
    return ended or not _LINE_ENDS.isdisjoint(before[len(said) :])


def common_ground(texts: Collection[str]) -> int:
    """How long the beginning is that all texts share, whole words only. There is at least one."""
    shortest = min(map(len, texts))
    one, *others = texts
    shared = next(
        (i for i in range(shortest) if any(other[i] != one[i] for other in others)), shortest
    )
    return next((at for at in range(shared, 0, -1) if all(_ends_at(t, at) for t in texts)), 0)


def _ends_sentence(text: str, at: int) -> bool:
    while at > 0 and text[at - 1] in _CLOSING:
        at -= 1
    return at > 0 and text[at - 1] in _SENTENCE_ENDS


def _boundaries(text: str) -> Iterator[int]:
    """The places after the beginning at which a word ends, the text's own end included."""
    return (at for at in range(1, len(text) + 1) if _ends_at(text, at))


def _ends_at(text: str, at: int) -> bool:
    """Whether a word ends at `at`, `0 < at <= len(text)`. The end of a text is taken for one."""
    if at == len(text):
        return True
    left, right = text[at - 1], text[at]
    if left in _PLAIN and right in _PLAIN:  # what follows would find the same, and most is this
        return False
    if left in "\n\r":
        return left + right != "\r\n"
    joined = left.isspace() or _ZERO_WIDTH_JOINER in {left, right} or _is_mark(right)
    if joined or right in "\n\r":
        return False
    if right.isspace():
        return True
    return _parts(text, at)


def _parts(text: str, at: int) -> bool:
    """Whether two characters, neither of them a space, belong to different words."""
    left, right = _base(text, at), text[at]
    if _is_inner(text, at - 1, _APOSTROPHES) or _is_inner(text, at, _APOSTROPHES):
        return False
    if _is_unspaced(left) or _is_unspaced(right):
        return True
    if _is_inner(text, at - 1, _POINTS) or _is_inner(text, at, _POINTS):
        return False
    return _is_word(left) != _is_word(right)


def _is_inner(text: str, at: int, marks: Collection[str]) -> bool:
    """Whether one of these marks stands at `at`, within a word or number."""
    inside = 0 < at < len(text) - 1 and text[at] in marks
    return inside and text[at - 1].isalnum() and text[at + 1].isalnum()


def _base(text: str, end: int) -> str:
    """The last character of `text[:end]` that is no skin tone, or else the first."""
    if not _is_skin_tone(text[end - 1]):
        return text[end - 1]
    before = (text[at] for at in range(end - 1, -1, -1))
    return next((char for char in before if not _is_skin_tone(char)), text[0])


def _is_word(char: str) -> bool:
    category = unicodedata.category(char)
    return category[0] in "LNM" or category == "Pc"


def _is_mark(char: str) -> bool:
    return unicodedata.category(char)[0] == "M" or _is_skin_tone(char)


def _is_skin_tone(char: str) -> bool:
    return "\U0001f3fb" <= char <= "\U0001f3ff"


def _is_unspaced(char: str) -> bool:
    code = ord(char)
    return code >= _FIRST_UNSPACED and any(one <= code <= last for one, last in _UNSPACED_SCRIPTS)
