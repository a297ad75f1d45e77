"""A segment in the making: tokens in, text out.

Bytes that cannot be UTF-8 any more are dropped; U+FFFD appears only if a model writes it.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable
from dataclasses import dataclass, replace

from model_service.backends.text.encoders import TokenIds
from model_service.core.text import last_word_boundary


@dataclass(frozen=True, slots=True)
class DraftedText:
    """A draft's final text.

    `ids` are those by which the text extends the context: its own encoding. `drafted` says that
    they are exactly the tokens that were drafted (the first of them, if the draft was cut), so that
    what the model said of those tokens is what it would say of the text.
    """

    text: str
    ids: TokenIds
    drafted: bool


class Draft:
    """A segment in the making: tokens in, text out. Used by one call, from one thread at a time."""

    def __init__(
        self,
        spell: Callable[[int], bytes],
        encode: Callable[[str], TokenIds],
        *,
        opens_marked: bool,
    ) -> None:
        """An empty draft.

        Args:
            spell: The bytes that a token adds to the text.
            encode: The ids by which a text extends the context.
            opens_marked: Whether a space at the beginning stands for nothing.
        """
        self._spell = spell
        self._encode = encode
        self._marked = opens_marked
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="ignore")
        self._ids: list[int] = []
        self._ends: list[int] = []
        self.text = ""
        """The text so far, up to the last character that is complete."""

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def ids(self) -> TokenIds:
        """The tokens so far."""
        return tuple(self._ids)

    def append(self, token: int) -> None:
        """Takes the next token. Special tokens, end tokens among them, add no text."""
        piece = self._spell(token)
        if self._marked and piece:
            piece = piece.removeprefix(b" ")
            self._marked = False
        self.text += self._decoder.decode(piece)
        self._ids.append(token)
        if not self._decoder.getstate()[0]:
            self._ends.append(len(self.text))

    def whole(self) -> DraftedText:
        """The segment of a model that ended its answer: nothing is cut."""
        segment = self._segment(len(self.text))
        return replace(segment, drafted=segment.ids == self.ids)

    def cut(self) -> DraftedText:
        """The segment of a draft that met its limit: cut back to the last complete word."""
        return self._segment(last_word_boundary(self.text, self._ends))

    def until(self, end: int) -> DraftedText:
        """The segment of a draft in which a stop string was completed at `end` in its text."""
        return self._segment(end)

    def _segment(self, end: int) -> DraftedText:
        text = self.text[:end]
        ids = self._encode(text)
        return DraftedText(text, ids, drafted=ids == self.ids[: len(ids)])
