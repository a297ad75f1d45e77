"""A tokenizer's JSON, read for what its rules are certain to do and never to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Rule = dict[str, Any]

# One alternative of the patterns by which byte-level tokenizers cut words: a contraction; or a run
# of letters, of numbers or of neither, after at most one other character; or whitespace.
_ALTERNATIVE = re.compile(
    r"""\(\?i:(?:'[a-z]+\|?)+\) | '[a-z]+
    | (?:[ ]\?|\[\^\\r\\n\\p\{L\}\\p\{N\}\]\?)?
      (?P<run>\\p\{L\}|\\p\{N\}|\[\^\\s\\p\{L\}\\p\{N\}\])
      (?P<times>\+|\{1,(?P<most>\d+)\})?
      (?:\[\\r\\n\]\*)?
    | \\s\*\[\\r\\n\]\+ | \\s\+\(\?!\\S\) | (?P<space>\\s\+)""",
    re.VERBOSE,
)
_LETTERS, _NUMBERS, _OTHERS = r"\p{L}", r"\p{N}", r"[^\s\p{L}\p{N}]"


@dataclass(frozen=True, slots=True)
class Words:
    """What is known of a pattern that cuts all text into words, none with a space in its midst.

    A word is a run of letters, numbers, other characters or whitespace, with at most one character
    before it. `runs` has the longest run of each class, None for any length.
    """

    runs: dict[str, int | None]

    @property
    def longest(self) -> int | None:
        """The most characters of a word that has neither numbers nor whitespace in its run."""
        runs = [self.runs[_LETTERS], self.runs[_OTHERS]]
        known = [run for run in runs if run is not None]
        return max(known) + 1 if len(known) == len(runs) else None


def parts(rule: Rule | None) -> list[Rule]:
    """A normalizer's or pre-tokenizer's own parts, in order."""
    if rule is None:
        return []
    nested = rule.get("normalizers") or rule.get("pretokenizers")
    if rule["type"] != "Sequence":
        return [rule]
    return [each for part in nested or () for each in parts(part)]


def marker(rule: Rule) -> str | None:
    """The single character that a normalizer puts in the place of every space."""
    match rule:
        case {"type": "Replace", "pattern": {"String": " "}, "content": str(content)}:
            return content if len(content) == 1 else None
        case _:
            return None


def words(rule: Rule) -> Words | None:
    """The words into which a `Split` cuts text, if its pattern is of the usual form."""
    match rule:
        case {"pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}:
            return _words(pattern)
        case _:
            return None


def pieces(model: Rule) -> set[str]:
    """The vocabulary of a model."""
    vocab = model["vocab"]
    return set(vocab) if isinstance(vocab, dict) else {piece for piece, _ in vocab}


def _words(pattern: str) -> Words | None:
    runs: dict[str, int | None] = {}
    spaces = False
    for alternative in _alternatives(pattern):
        match = _ALTERNATIVE.fullmatch(alternative)
        if match is None:
            return None
        spaces = spaces or match["space"] is not None
        if match["run"]:
            runs[match["run"]] = _longer(runs.get(match["run"], 0), match)
    return Words(runs) if spaces and {_LETTERS, _NUMBERS, _OTHERS} <= runs.keys() else None


def _alternatives(pattern: str) -> Iterator[str]:
    """The pattern, cut at the bars that no parenthesis encloses."""
    found = re.findall(r"(?:\([^()]*\)|[^|()])+", pattern)
    yield from found if "|".join(found) == pattern else [pattern]


def _longer(run: int | None, match: re.Match[str]) -> int | None:
    if run is None or match["times"] == "+":
        return None
    return max(run, int(match["most"] or 1))
