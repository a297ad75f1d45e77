"""A model's tokenizer, in the variants that prompts, templates and segments need."""

from __future__ import annotations

import json
import re
from functools import cached_property
from itertools import pairwise, takewhile
from typing import Any

from tokenizers import Encoding, Tokenizer

from specfuse.errors import InvalidArgument

TokenIds = tuple[int, ...]


class Encoders:
    """The tokenizer, in the variants that prompts, templates and segments need."""

    def __init__(self, description: dict[str, Any], end_ids: TokenIds, unknown: int | None) -> None:
        self._description = description
        for token in description["added_tokens"]:
            token["special"] = token["special"] or token["id"] in end_ids
        self.specials: dict[int, str] = {
            token["id"]: token["content"]
            for token in description["added_tokens"]
            if token["special"] and token["id"] != unknown
        }
        """The special tokens that no text of a request may become, by id."""
        self._native = _built(description)
        self._plain = _built(description, specials=False)
        self._continuing = _built(_without_prefix_space(description), specials=False)
        self._beginning = _beginning(self._plain)
        self._marking: dict[int, bool] = {}

    @cached_property
    def _resumed(self) -> Tokenizer:
        """For a template's text after a special token's string in a message. Rare: made late."""
        return _built(_without_prefix_space(self._description))

    @cached_property
    def ignores_spaces(self) -> bool:
        """Whether a leading space makes no difference to a segment's ids."""
        return self.continuation("a") == self.continuation(" a")

    def id_to_token(self, token: int) -> str | None:
        """A token as the vocabulary has it."""
        return self._native.id_to_token(token)

    def marks_after(self, token: int) -> bool:
        """Whether the tokenizer puts a space of its own before text that follows this token."""
        if token not in self._marking:
            special = self.specials.get(token)
            self._marking[token] = special is not None and self._marks(special)
        return self._marking[token]

    def _marks(self, special: str) -> bool:
        return _ids(self._native, f"{special}a")[1:] == self.continuation(" a")

    def specials_in(self, text: str) -> set[str]:
        """The parts of `text` that would be taken for special tokens in a template's text."""
        encoding = self._native.encode(text, add_special_tokens=False)
        return {text[start:end] for start, end in self._special_spans(encoding)}

    def raw(self, text: str) -> TokenIds:
        """The ids of a prompt that is text only, after the tokens that begin every text."""
        return self._beginning + self._text_ids(text, self._plain)

    def rendered(self, text: str, literals: dict[str, str]) -> TokenIds:
        """The ids of a template's text, in which each key of `literals` stands for a plain text."""
        if not literals:
            return _ids(self._native, text)
        first, *rest = re.split(f"([{''.join(literals)}])", text)
        ids = _ids(self._native, first)
        for piece in rest:
            literal = literals.get(piece)
            ids += _ids(self._resumed, piece) if literal is None else self.continuation(literal)
        return ids

    def continuation(self, text: str) -> TokenIds:
        """The ids of text that goes on from other text."""
        return self._text_ids(text, self._continuing)

    def _text_ids(self, text: str, encoder: Tokenizer) -> TokenIds:
        """The ids of `text`, none of them special.

        A vocabulary may hold its special tokens' strings as ordinary pieces, too. Text that spells
        one is encoded in two parts.
        """
        encoding = encoder.encode(text, add_special_tokens=False)
        spans = self._special_spans(encoding)
        if not spans:
            return tuple(encoding.ids)
        if any(end - start == 1 for start, end in spans):
            raise InvalidArgument(
                "context", "holds a character that is a special token of the model"
            )
        cuts = [start + 1 for start, _ in spans]
        first, *rest = (text[a:b] for a, b in pairwise([0, *cuts, len(text)]))
        ids = self._text_ids(first, encoder)
        return sum((self.continuation(part) for part in rest), ids)

    def _special_spans(self, encoding: Encoding) -> list[tuple[int, int]]:
        pairs = zip(encoding.ids, encoding.offsets, strict=True)
        return [span for token, span in pairs if token in self.specials]


def _built(description: dict[str, Any], *, specials: bool = True) -> Tokenizer:
    """A tokenizer from its JSON; with `specials=False` it finds no special tokens in text."""
    tokenizer = Tokenizer.from_str(json.dumps(description))
    tokenizer.encode_special_tokens = not specials
    return tokenizer


def _beginning(tokenizer: Tokenizer) -> TokenIds:
    """The special tokens that the tokenizer puts before every text."""
    encoding = tokenizer.encode("a")
    added = takewhile(
        lambda pair: pair[1], zip(encoding.ids, encoding.special_tokens_mask, strict=True)
    )
    return tuple(token for token, _ in added)


def _ids(tokenizer: Tokenizer, text: str) -> TokenIds:
    return tuple(tokenizer.encode(text, add_special_tokens=False).ids)


def _without_prefix_space(description: dict[str, Any]) -> dict[str, Any]:
    """A tokenizer's JSON without whatever puts a space before the first word of a text."""
    rules = {key: description[key] for key in ("normalizer", "pre_tokenizer")}
    changed: dict[str, Any] = _never_prefixing(rules)
    return description | changed


def _never_prefixing(rule: Any) -> Any:  # noqa: ANN401
    if isinstance(rule, list):
        return [_never_prefixing(item) for item in rule if not _is_prepend(item)]
    if not isinstance(rule, dict):
        return rule
    rule = {key: None if _is_prepend(v) else _never_prefixing(v) for key, v in rule.items()}
    if rule.get("type") == "Metaspace":
        rule["prepend_scheme"] = "never"
    if "add_prefix_space" in rule:
        rule["add_prefix_space"] = False
    return rule


def _is_prepend(part: Any) -> bool:  # noqa: ANN401
    return isinstance(part, dict) and part.get("type") == "Prepend"
