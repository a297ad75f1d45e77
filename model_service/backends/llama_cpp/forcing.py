"""How a branch is scored by a server that only tells of tokens that it generates.

A grammar of token literals forces the server to generate the branch, and it tells the model's own
probability of each token. Some tokens cannot be literals: those that are no whole characters, and
those that are special. They are scored one by one, with the tokens before them as context.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby

from model_service.backends.text.encoders import TokenIds


@dataclass(frozen=True, slots=True)
class Run:
    """Tokens that one grammar forces."""

    ids: TokenIds


@dataclass(frozen=True, slots=True)
class Single:
    """A token that no grammar can force."""

    token: int


Part = Run | Single


def parts(ids: TokenIds, is_literal: Callable[[int], bool]) -> Iterator[Part]:
    """A branch in parts, each to be scored after those before it."""
    for literal, group in groupby(ids, is_literal):
        if literal:
            yield Run(tuple(group))
        else:
            yield from map(Single, group)


def grammar(ids: TokenIds) -> str:
    """The grammar, in GBNF, of exactly these tokens."""
    return "root ::= " + " ".join(f"<[{token}]>" for token in ids)


def is_whole(spelt: bytes) -> bool:
    """Whether a token adds whole characters to a text: at least one, and none of them NUL."""
    try:
        text = spelt.decode()
    except UnicodeDecodeError:
        return False
    return bool(text) and "\0" not in text
