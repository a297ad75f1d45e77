"""Which special tokens a text spells, found without tokenizing it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from model_service.backends.text.rules import Rule, marker, parts, pieces


@dataclass(frozen=True, slots=True)
class Spelling:
    """Finds what a tokenizer would take for special tokens, where that is just their strings."""

    specials: set[str]
    added: re.Pattern[str]

    def found_in(self, text: str) -> set[str]:
        """The special tokens that `text` spells."""
        return self.specials.intersection(self.added.findall(text))


def spelling_of(description: dict[str, Any], specials: set[str]) -> Spelling | None:
    """How a tokenizer finds its special tokens, or None if its JSON does not say so for certain.

    Those of its added tokens that it looks for in the text as it came, it finds from left to right,
    the longest first. What is left holds none of their strings, so its model can make none either.
    """
    first = [token for token in description["added_tokens"] if not token["normalized"]]
    contents = {token["content"] for token in first}
    if not specials <= contents or any(map(_looks_around, first)):
        return None
    if not _only_from_its_string(description, specials):
        return None
    longest_first = sorted(map(re.escape, contents), key=len, reverse=True)
    return Spelling(specials, re.compile("|".join(longest_first) or r"(?!)"))


def replaced(text: str, replacements: dict[str, str]) -> str:
    """`text` with every key replaced by its value, in their order."""
    for old, new in replacements.items():
        text = text.replace(old, new)
    return text


def _looks_around(token: dict[str, Any]) -> bool:
    return bool(token["lstrip"] or token["rstrip"] or token["single_word"])


def _only_from_its_string(description: dict[str, Any], specials: set[str]) -> bool:
    """Whether the model makes special tokens of no text that does not hold their strings."""
    if specials.isdisjoint(_made_by_model(description["model"])):
        return True
    return all(map(_is_plain, specials)) and all(
        part["type"] == "Prepend" or marker(part) is not None
        for part in parts(description["normalizer"])
    )


def _made_by_model(model: Rule) -> Iterable[str]:
    """The pieces that the model can make of text. BPE makes only what it merges."""
    if model["type"] != "BPE" or model["ignore_merges"]:
        return pieces(model)
    return map("".join, model["merges"])


def _is_plain(content: str) -> bool:
    """Whether a piece of a vocabulary stands for no other text than itself."""
    return content.isascii() and content.isprintable() and not re.match(r"##| ", content)
