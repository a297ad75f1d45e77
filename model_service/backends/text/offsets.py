"""Where in a text its tokens begin, in UTF-8 bytes.

A token begins at the character of its first byte, and tokens leave nothing out between them: what
no token has a part in, such as whitespace that a tokenizer drops, belongs to the one after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

Offsets = tuple[int, ...]

Spans = list[tuple[int, int]]
"""Where tokens begin and end, in characters."""

_CONTINUES = 0b10
"""How a byte begins that is not the first of its character."""


def of_spelling(text: str, pieces: Sequence[bytes]) -> Offsets | None:
    """Where pieces begin that spell the text; None if they spell another."""
    written = text.encode()
    if b"".join(pieces) != written:
        return None
    ends = accumulate(map(len, pieces), initial=0)
    return tuple(_character_at(written, end) for _, end in zip(pieces, ends, strict=False))


def of_spans(text: str, spans: Spans) -> Offsets:
    """Where tokens begin of which the tokenizer says what they are from.

    The parts of a character, and of what it takes for one, are all said to be from all of it.
    """
    bytes_before = [0, *accumulate(len(char.encode()) for char in text)]
    offsets: list[int] = []
    begin, covered = 0, 0
    for start, end in spans:
        begin = max(begin, min(start, covered))
        covered = max(covered, end)
        offsets.append(bytes_before[begin])
    return tuple(offsets)


def _character_at(written: bytes, at: int) -> int:
    while at < len(written) and written[at] >> 6 == _CONTINUES:
        at -= 1
    return at
