"""A model's tokenizer, in the variants that prompts, templates and segments need."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from functools import cached_property
from itertools import pairwise, takewhile
from typing import Any, Final

from tokenizers import AddedToken, Encoding, Tokenizer
from tokenizers.models import Model

from model_service.backends.text.bounds import bound_of
from model_service.backends.text.cuts import can_cut, in_parts, marks_every_section
from model_service.backends.text.offsets import Spans
from model_service.backends.text.spelling import replaced, spelling_of
from specfuse.errors import ContextTooLong, InvalidArgument

TokenIds = tuple[int, ...]

UNLIMITED: Final = sys.maxsize
"""A window, in tokens, that any text fits."""

_NO_MODEL: Final = {"type": "BPE", "vocab": {}, "merges": []}
_SHORT_CHARACTERS = 256
"""So short a text is tokenized sooner than measured."""


class Encoders:
    """The tokenizer, in the variants that prompts, templates and segments need.

    Where a window is given, text that cannot fit it is refused with `ContextTooLong` as soon as
    that is certain. Text that can is tokenized whole, and may turn out to be too long.
    """

    def __init__(
        self,
        description: dict[str, Any],
        model: Model,
        end_ids: TokenIds,
        unknown: int | None,
    ) -> None:
        """Prepares the variants, which share the model: vocabularies are large.

        Args:
            description: the tokenizer's JSON.
            model: what makes tokens of words, as `description` has it.
            end_ids: the ids that end an answer.
            unknown: the id of what stands for text that has no other.
        """
        for token in description["added_tokens"]:
            token["special"] = token["special"] or token["id"] in end_ids
        self.specials: dict[int, str] = {
            token["id"]: token["content"]
            for token in description["added_tokens"]
            if token["special"] and token["id"] != unknown
        }
        """The special tokens that no text of a request may become, by id."""
        self._rules = {key: value for key, value in description.items() if key != "model"}
        self._native = _built(self._rules, model)
        self._plain = _built(self._rules, model, specials=False)
        self._continuing = _built(_continuing(self._rules), model, specials=False)
        self._beginning = _beginning(self._plain)
        self._marking: dict[int, bool] = {}
        self._bound = bound_of(description)
        self._cuts = can_cut(description)
        self._cuts_templates = self._cuts and not marks_every_section(description)
        self._spelling = spelling_of(description, set(self.specials.values()))

    @cached_property
    def _resumed(self) -> Tokenizer:
        """For a template's text after a special token's string in a message. Rare: made late."""
        return _built(_without_prefix_space(self._rules), self._native.model)

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
        if self._spelling is not None:
            return self._spelling.found_in(text)
        return {
            text[start:end] for start, end in self._special_spans(_encoding(self._native, text))
        }

    def whole(self, text: str) -> TokenIds:
        """The ids that the tokenizer itself gives a text, whatever special tokens it spells."""
        return self._native_ids(text)

    def sent(self, text: str) -> TokenIds:
        """Like `whole`, with the tokens that the tokenizer puts around every text."""
        (encoding,) = self._native.encode_batch_fast([text], add_special_tokens=True)
        return tuple(encoding.ids)

    def is_plain(self, text: str) -> bool:
        """Whether `whole` takes no part of a text for a special token, the unknown one included."""
        ids = self._native_ids(text)
        return self.specials.keys().isdisjoint(ids) and ids == _ids(self._plain, text)

    def raw(self, text: str, window: int = UNLIMITED) -> TokenIds:
        """The ids of a prompt that is text only, after the tokens that begin every text."""
        self._check_bound(text, window)
        return self._beginning + self._in_parts(text, window, self._plain_ids, self._continuing_ids)

    def rendered(self, text: str, literals: dict[str, str], window: int = UNLIMITED) -> TokenIds:
        """The ids of a template's text, in which each key of `literals` stands for a plain text."""
        self._check_bound(replaced(text, literals), window)
        first, *rest = re.split(f"([{''.join(literals)}])", text) if literals else [text]
        ids = list(self._template_ids(first, window))
        for piece in rest:
            check_fits(len(ids), window)
            if piece in literals:
                ids += self.continuation(literals[piece])
            else:
                ids += self._in_parts(piece, window, self._resumed_ids)
        return tuple(ids)

    def _template_ids(self, text: str, window: int) -> TokenIds:
        if not self._cuts_templates:
            return self._native_ids(text)
        return self._in_parts(text, window, self._native_ids, self._resumed_ids)

    def continuation(self, text: str, window: int = UNLIMITED) -> TokenIds:
        """The ids of text that goes on from other text."""
        self._check_bound(text, window)
        return self._in_parts(text, window, self._continuing_ids)

    def spans(self, text: str) -> Spans:
        """Where in the text each token of its `continuation` is from."""
        spans: Spans = []
        before = 0
        for part in in_parts(text) if self._cuts else (text,):
            spans += _moved(self._continuing_spans(part), before)
            before += len(part)
        return spans

    def _check_bound(self, text: str, window: int) -> None:
        if len(text) > _SHORT_CHARACTERS:
            check_fits(self._bound.at_least(text, window + 1), window)

    def _in_parts(self, text: str, window: int, *encoders: Callable[[str], TokenIds]) -> TokenIds:
        """The ids of `text` by the first of `encoders`; the last goes on where text is cut."""
        ids: list[int] = []
        encode = encoders[0]
        for part in in_parts(text) if self._cuts else (text,):
            check_fits(len(ids), window)
            ids += encode(part)
            encode = encoders[-1]
        return tuple(ids)

    def _native_ids(self, text: str) -> TokenIds:
        return _ids(self._native, text)

    def _resumed_ids(self, text: str) -> TokenIds:
        return _ids(self._resumed, text)

    def _plain_ids(self, text: str) -> TokenIds:
        return self._text_ids(text, self._plain)

    def _continuing_ids(self, text: str) -> TokenIds:
        return self._text_ids(text, self._continuing)

    def _text_ids(self, text: str, encoder: Tokenizer) -> TokenIds:
        """The ids of `text`, none of them special.

        A vocabulary may hold its special tokens' strings as ordinary pieces, too. Text that spells
        one is encoded in two parts.
        """
        ids = _ids(encoder, text)
        if self.specials.keys().isdisjoint(ids):
            return ids
        first, *rest = self._apart(text, _encoding(encoder, text))
        ids = self._text_ids(first, encoder)
        return sum((self._continuing_ids(part) for part in rest), ids)

    def _continuing_spans(self, text: str) -> Spans:
        encoding = _encoding(self._continuing, text)
        if self.specials.keys().isdisjoint(encoding.ids):
            return encoding.offsets
        spans: Spans = []
        before = 0
        for part in self._apart(text, encoding):
            spans += _moved(self._continuing_spans(part), before)
            before += len(part)
        return spans

    def _apart(self, text: str, encoding: Encoding) -> list[str]:
        """The text, cut within each part of it that is taken for a special token."""
        spans = self._special_spans(encoding)
        if any(end - start == 1 for start, end in spans):
            raise InvalidArgument(
                "context", "holds a character that is a special token of the model"
            )
        cuts = [start + 1 for start, _ in spans]
        return [text[a:b] for a, b in pairwise([0, *cuts, len(text)])]

    def _special_spans(self, encoding: Encoding) -> list[tuple[int, int]]:
        pairs = zip(encoding.ids, encoding.offsets, strict=True)
        return [span for token, span in pairs if token in self.specials]


def check_fits(tokens: int, window: int) -> None:
    """Refuses text of which so many tokens are certain.

    Raises:
        ContextTooLong: they do not fit the window.
    """
    if tokens > window:
        raise ContextTooLong(tokens=tokens, window=window, counted=False)


def _built(rules: dict[str, Any], model: Model, *, specials: bool = True) -> Tokenizer:
    """A tokenizer of these rules; with `specials=False` it finds no special tokens in text."""
    tokenizer = Tokenizer.from_str(json.dumps(rules | {"added_tokens": [], "model": _NO_MODEL}))
    tokenizer.model = model
    tokenizer.add_tokens([_added(token) for token in rules["added_tokens"]])
    tokenizer.encode_special_tokens = not specials
    return tokenizer


def _added(token: dict[str, Any]) -> AddedToken:
    """An added token of a tokenizer's JSON, which has them in the order of their ids."""
    flags = {flag: token[flag] for flag in token if flag not in ("id", "content")}
    return AddedToken(token["content"], **flags)


def _beginning(tokenizer: Tokenizer) -> TokenIds:
    """The special tokens that the tokenizer puts before every text."""
    encoding = tokenizer.encode("a")
    added = takewhile(
        lambda pair: pair[1], zip(encoding.ids, encoding.special_tokens_mask, strict=True)
    )
    return tuple(token for token, _ in added)


def _ids(tokenizer: Tokenizer, text: str) -> TokenIds:
    """The ids of text. A batch of one, because other threads can run beside a batch only."""
    (encoding,) = tokenizer.encode_batch_fast([text], add_special_tokens=False)
    return tuple(encoding.ids)


def _encoding(tokenizer: Tokenizer, text: str) -> Encoding:
    """What `_ids` leaves out: where in the text each token is from."""
    (encoding,) = tokenizer.encode_batch([text], add_special_tokens=False)
    return encoding


def _moved(spans: Spans, by: int) -> Spans:
    return [(start + by, end + by) for start, end in spans] if by else spans


def _continuing(description: dict[str, Any]) -> dict[str, Any]:
    """A tokenizer's JSON for text that goes on from other text.

    What it does to the tokens in the end would only say of words that they begin after their space.
    """
    return _without_prefix_space(description) | {"post_processor": None}


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
