"""A model's tokenizer as segments need it: text in, ids that only ever grow; ids in, exact text.

Context. The ids of a context are those of its prompt, then of each committed segment on its own.
So they are append-only, and a function of the context alone. A segment's ids add exactly its text:
the space that many tokenizers put before whatever stands first is left out.

    prompt                   "<|user|>Hi<|assistant|>"  the chat template's text, tokenized whole
    segments "It is", " 42"  [▁It ▁is] [▁42]            no special tokens, no space of their own

One space is not text: where the tokenizer itself puts one between a special token and the text
after it, the answer's first word begins with a marker that stands for nothing. It is neither shown
in the answer nor expected of it.

Special tokens. Text that comes from a request never becomes a special token, whatever it spells:
not in a raw prompt, not in a message, not in a segment. Only the chat template's own text does.
(Added tokens that the tokenizer does not declare special, such as runs of spaces, are text.)

Drafts. Bytes that cannot be UTF-8 any more are dropped; U+FFFD appears only if a model writes it.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import re
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import pairwise, takewhile
from typing import TYPE_CHECKING, Any

from jinja2.exceptions import TemplateError
from tokenizers import Tokenizer

from model_service.backends.spelling import Speller
from model_service.core.text import last_word_boundary
from specfuse.errors import InvalidArgument, Misconfigured

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tokenizers import Encoding
    from transformers import PreTrainedTokenizerFast

    from model_service.core.types import Context, Message

TokenIds = tuple[int, ...]
Prompt = tuple["Message", ...] | str

_PROMPTS_KEPT = 64
_SEGMENTS_KEPT = 4096
_PRIVATE_USE = range(0xE000, 0xF900)


@dataclass(frozen=True, slots=True)
class Segment:
    """A draft's final text.

    `ids` are those by which the text extends the context: its own encoding. `drafted` says that
    they are exactly the tokens that were drafted (the first of them, if the draft was cut), so that
    what the model said of those tokens is what it would say of the text.
    """

    text: str
    ids: TokenIds
    drafted: bool


@dataclass(frozen=True, slots=True)
class _Prompt:
    """A tokenized prompt.

    `opens_marked` says that a space at the beginning of what follows stands for nothing.
    """

    ids: TokenIds
    opens_marked: bool


class SegmentTokenizer:
    """Tokenizes prompts and segments, and spells drafts. Safe to share between threads."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, end_ids: Iterable[int] = ()) -> None:
        """Wraps `tokenizer`.

        Args:
            tokenizer: a fast tokenizer (of the `tokenizers` library), with a chat template if
                conversations are to be served.
            end_ids: the ids that end an answer, beyond the tokenizer's own end token.

        Raises:
            Misconfigured: it is not fast, has no end token, or joins tokens in an unknown way.
        """
        if not getattr(tokenizer, "is_fast", False):
            raise Misconfigured(
                "the model has no fast tokenizer (tokenizer.json); convert it first"
            )
        self._tokenizer = tokenizer
        own_end: int | None = tokenizer.eos_token_id
        self.end_ids: TokenIds = tuple(
            dict.fromkeys([*([] if own_end is None else [own_end]), *end_ids])
        )
        """The ids that end an answer. The first is the tokenizer's own, or else the model's."""
        if not self.end_ids:
            raise Misconfigured("the tokenizer has no end-of-sequence token; set its eos_token")
        description = _description(tokenizer)
        self.fingerprint: str = _digest(description, tokenizer.chat_template, self.end_ids)
        """Digest of vocabulary, rules, chat template and end tokens. Replicas must agree on it."""
        self._encoders = _Encoders(description, self.end_ids, tokenizer.unk_token_id)
        self._speller = Speller(description, self._encoders.id_to_token)
        self._prompt = lru_cache(_PROMPTS_KEPT)(self._tokenized)
        self._segment = lru_cache(_SEGMENTS_KEPT)(self._encoders.continuation)

    def prompt_ids(self, prompt: Prompt) -> TokenIds:
        """The ids of a prompt: a conversation by the chat template, raw text as it stands.

        Raises:
            InvalidArgument: there is no chat template, or it refuses the conversation.
        """
        return self._prompt(prompt).ids

    def context_ids(self, context: Context) -> TokenIds:
        """The ids of a context: its prompt's, then each committed segment's.

        Raises:
            InvalidArgument: like `prompt_ids`.
        """
        ids = list(self.prompt_ids(context.prompt))
        before = ""
        for segment in context.committed:
            ids += self._ids_after(before, context.prompt, segment)
            before = segment or before
        return tuple(ids)

    def segment_ids(self, text: str, context: Context) -> TokenIds:
        """The ids by which `text` extends `context`. May be empty: some tokenizers drop whitespace.

        Raises:
            InvalidArgument: like `prompt_ids`.
        """
        return self._ids_after(_last_segment(context), context.prompt, text)

    def draft(self, context: Context) -> Draft:
        """An empty draft of the segment that follows `context`.

        Raises:
            InvalidArgument: like `prompt_ids`.
        """
        return Draft(self, context)

    def spell(self, token: int) -> bytes:
        """The bytes, not always of whole characters, that a drafted token adds to the text."""
        return self._speller.spell(token)

    def opens_marked(self, context: Context) -> bool:
        """Whether a space at the beginning of what follows `context` stands for nothing.

        So it is where the tokenizer itself would put one (at the start of an answer, after a
        special token) and, for tokenizers that ignore leading spaces, after whitespace.
        """
        return self._marked_after(_last_segment(context), context.prompt)

    def _marked_after(self, segment: str, prompt: Prompt) -> bool:
        if not segment:
            return self._prompt(prompt).opens_marked
        return self._encoders.ignores_spaces and segment[-1].isspace()

    def _ids_after(self, segment: str, prompt: Prompt, text: str) -> TokenIds:
        """The ids of `text` after a committed segment, or right after the prompt if it is empty."""
        marked = bool(text) and self._marked_after(segment, prompt)
        return self._segment(f" {text}" if marked else text)

    def _tokenized(self, prompt: Prompt) -> _Prompt:
        if isinstance(prompt, str):
            text, ids = prompt, self._encoders.raw(prompt)
        else:
            text, literals = self._rendered(prompt)
            ids = self._encoders.rendered(text, literals)
        if not ids:
            raise InvalidArgument(
                "context", "the prompt holds nothing that the model has tokens for"
            )
        after_space = self._encoders.ignores_spaces and text[-1:].isspace()
        return _Prompt(ids, after_space or self._encoders.marks_after(ids[-1]))

    def _rendered(self, messages: tuple[Message, ...]) -> tuple[str, dict[str, str]]:
        """The template's text, and the special tokens' strings that stand-ins in it represent."""
        stand_ins = self._stand_ins([message.content for message in messages])
        guarded = [
            {"role": m.role.value, "content": _replaced(m.content, stand_ins)} for m in messages
        ]
        return self._apply_template(guarded), {char: spelt for spelt, char in stand_ins.items()}

    def _stand_ins(self, contents: list[str]) -> dict[str, str]:
        """A character that occurs in none of `contents` for each special token spelt in them."""
        spelt = set().union(*map(self._encoders.specials_in, contents))
        used = set().union(*contents)
        unused = (chr(code) for code in _PRIVATE_USE if chr(code) not in used)
        stand_ins = dict(zip(sorted(spelt, key=len, reverse=True), unused, strict=False))
        if len(stand_ins) < len(spelt):
            raise InvalidArgument(
                "context.conversation", f"spells {len(spelt)} special tokens; spell fewer"
            )
        return stand_ins

    def _apply_template(self, conversation: list[dict[str, str]]) -> str:
        if not self._tokenizer.chat_template:
            raise InvalidArgument(
                "context.conversation", "the model has no chat template; send a raw_prompt instead"
            )
        try:
            text = self._tokenizer.apply_chat_template(
                conversation, tokenize=False, add_generation_prompt=True
            )
        except TemplateError as error:
            raise InvalidArgument(
                "context.conversation", f"the model's chat template refuses it: {error}"
            ) from error
        return str(text)


class Draft:
    """A segment in the making: tokens in, text out. Used by one call, from one thread at a time."""

    def __init__(self, tokenizer: SegmentTokenizer, context: Context) -> None:
        self._tokenizer = tokenizer
        self._context = context
        self._marked = tokenizer.opens_marked(context)
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
        piece = self._tokenizer.spell(token)
        if self._marked and piece:
            piece = piece.removeprefix(b" ")
            self._marked = False
        self.text += self._decoder.decode(piece)
        self._ids.append(token)
        if not self._decoder.getstate()[0]:
            self._ends.append(len(self.text))

    def whole(self) -> Segment:
        """The segment of a model that ended its answer: nothing is cut."""
        segment = self._segment(len(self.text))
        return replace(segment, drafted=segment.ids == self.ids)

    def cut(self) -> Segment:
        """The segment of a draft that met its limit: cut back to the last complete word."""
        return self._segment(last_word_boundary(self.text, self._ends))

    def until(self, end: int) -> Segment:
        """The segment of a draft in which a stop string was completed at `end` in its text."""
        return self._segment(end)

    def _segment(self, end: int) -> Segment:
        text = self.text[:end]
        ids = self._tokenizer.segment_ids(text, self._context)
        return Segment(text, ids, drafted=ids == self.ids[: len(ids)])


class _Encoders:
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
        """For a template's text after a special token's string in a message. Rare, so made late."""
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


def _description(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """The tokenizer's JSON, without how it pads and truncates."""
    description: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    return description | {"padding": None, "truncation": None}


def _built(description: dict[str, Any], *, specials: bool = True) -> Tokenizer:
    """A tokenizer by its JSON, which with `specials=False` finds no special tokens in text."""
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


def _last_segment(context: Context) -> str:
    """The last committed segment that is not empty, or an empty string."""
    return next((segment for segment in reversed(context.committed) if segment), "")


def _replaced(text: str, replacements: dict[str, str]) -> str:
    """`text` with every key replaced by its value, the longest key first."""
    for old, new in replacements.items():
        text = text.replace(old, new)
    return text


def _digest(description: dict[str, Any], chat_template: object, end_ids: TokenIds) -> str:
    identity = json.dumps([description, chat_template, end_ids], sort_keys=True)
    return hashlib.sha256(identity.encode()).hexdigest()[:32]
