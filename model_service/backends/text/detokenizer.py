"""Tokens spelled in bytes, so that a character spread over tokens is never seen in halves."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from specfuse.errors import Misconfigured

_Step = Callable[[str], str | bytes]


class Detokenizer:
    """What each token adds to a text, in bytes."""

    def __init__(
        self, description: dict[str, Any], id_to_token: Callable[[int], str | None]
    ) -> None:
        """Prepares to spell.

        Args:
            description: the tokenizer's JSON.
            id_to_token: a token as its vocabulary has it, or None.

        Raises:
            Misconfigured: it joins tokens in a way that is not known here.
        """
        self._id_to_token = id_to_token
        self._added = {
            token["id"]: b"" if token["special"] else token["content"].encode()
            for token in description["added_tokens"]
        }
        self._steps = tuple(_decoding_steps(description["decoder"]))
        self._spelled: dict[int, bytes] = {}

    def spell(self, token: int) -> bytes:
        """The bytes of one token; none for special tokens and ids that have no token."""
        spelled = self._spelled.get(token)
        if spelled is None:
            spelled = self._spelled[token] = self._spell(token)
        return spelled

    def _spell(self, token: int) -> bytes:
        if token in self._added:
            return self._added[token]
        piece: str | bytes | None = self._id_to_token(token)
        if piece is None:
            return b""
        for step in self._steps:
            if isinstance(piece, bytes):
                break
            piece = step(piece)
        return piece if isinstance(piece, bytes) else piece.encode()


def _decoding_steps(decoder: dict[str, Any] | None) -> Iterator[_Step]:
    """The steps that turn a token into its text or, as the last step, into bytes.

    What a decoder does only at the start of a text is left out: a draft never starts one.
    """
    match decoder:
        case None:
            yield partial(_word_piece, prefix="", cleanup=False)
        case {"type": "Sequence", "decoders": parts}:
            for part in parts:
                yield from _decoding_steps(part)
        case {"type": "Fuse" | "Strip"}:
            return
        case _:
            yield _decoding_step(decoder)


def _decoding_step(decoder: dict[str, Any]) -> _Step:
    match decoder:
        case {"type": "ByteLevel"}:
            return _byte_level
        case {"type": "ByteFallback"}:
            return _byte_fallback
        case {"type": "Replace", "pattern": {"String": old}, "content": new}:
            return lambda piece: piece.replace(old, new)
        case {"type": "Metaspace", "replacement": marker}:
            return lambda piece: piece.replace(marker, " ")
        case {"type": "WordPiece", "prefix": prefix, "cleanup": cleanup}:
            return partial(_word_piece, prefix=prefix, cleanup=cleanup)
        case _:
            raise Misconfigured(f"the tokenizer's decoder {decoder['type']} is not supported")


def _byte_level(piece: str) -> bytes:
    values = [_BYTES.get(char) for char in piece]
    return (
        piece.encode() if None in values else bytes(value for value in values if value is not None)
    )


def _byte_fallback(piece: str) -> str | bytes:
    match = re.fullmatch(r"<0x([0-9A-Fa-f]{2})>", piece)
    return bytes.fromhex(match[1]) if match else piece


def _word_piece(piece: str, prefix: str, *, cleanup: bool) -> str:
    """Pieces are words, and joined by spaces, unless they have the prefix."""
    if prefix and piece.startswith(prefix):
        return piece.removeprefix(prefix)
    return piece if cleanup and piece[:1] in tuple(".,?!") else f" {piece}"


def _byte_alphabet() -> dict[str, int]:
    """The characters by which byte-level tokenizers write bytes: printable ones are themselves."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    written = {chr(byte): byte for byte in printable}
    return written | {chr(0x100 + index): byte for index, byte in enumerate(others)}


_BYTES = _byte_alphabet()
