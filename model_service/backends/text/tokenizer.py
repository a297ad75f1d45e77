"""A model's tokenizer as segments need it: text in, ids that only ever grow; ids in, exact text.

Context. The ids of a context are those of its prompt, then of each committed segment on its own.
So they are append-only, and a function of the context alone. A segment's ids add exactly its text:
the space that many tokenizers put before the first word is left out.

    prompt                   "<|user|>Hi<|assistant|>"  the chat template's text, tokenized whole
    segments "It is", " 42"  [▁It ▁is] [▁42]            no special tokens, no space of their own

One space is not text: where the tokenizer itself puts one between a special token and the text
after it, the answer's first word begins with a marker that stands for nothing. It is neither shown
in the answer nor expected of it.

Special tokens. Text that comes from a request never becomes a special token, whatever it spells:
not in a raw prompt, not in a message, not in a segment. Only the chat template's own text does.
(Added tokens that the tokenizer does not declare special, such as runs of spaces, are text.)
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from tokenizers import Tokenizer

from model_service.backends.text.detokenizer import Detokenizer
from model_service.backends.text.drafts import Draft
from model_service.backends.text.encoders import UNLIMITED, Encoders, TokenIds, check_fits
from model_service.backends.text.offsets import Offsets, of_spans, of_spelling
from model_service.backends.text.published import PublishedTokenizer
from model_service.backends.text.spelling import replaced
from model_service.backends.text.templates import ChatTemplate
from model_service.core.types import Candidate, Context, Message
from specfuse.errors import InvalidArgument, Misconfigured

Prompt = tuple[Message, ...] | str

_PROMPTS_KEPT = 64
_SEGMENTS_KEPT = 4096
_PRIVATE_CODES = range(0xE000, 0xF900)
_PRIVATE_USE = re.compile("[\ue000-\uf8ff]")


@dataclass(frozen=True, slots=True)
class _Prompt:
    """A tokenized prompt.

    `opens_marked` says that a space at the beginning of what follows stands for nothing.
    """

    ids: TokenIds
    opens_marked: bool


class SegmentTokenizer:
    """Tokenizes prompts and segments, and spells drafts. Safe to share between threads."""

    def __init__(self, published: PublishedTokenizer, end_ids: Iterable[int] = ()) -> None:
        """Prepares to tokenize.

        Args:
            published: a tokenizer, with a chat template if conversations are to be served.
            end_ids: the ids that end an answer, beyond the tokenizer's own end token.

        Raises:
            Misconfigured: it has no end token, joins tokens in an unknown way, or has a chat
                template that is none.
        """
        own_end = published.id_of("eos_token")
        self.end_ids: TokenIds = tuple(
            dict.fromkeys([*([] if own_end is None else [own_end]), *end_ids])
        )
        """The ids that end an answer. The first is the tokenizer's own, or else the model's."""
        if not self.end_ids:
            raise Misconfigured("the tokenizer has no end-of-sequence token; set its eos_token")
        described = _described(published.tokenizer)
        self.fingerprint: str = _digest(described, published.chat_template, self.end_ids)
        """Digest of vocabulary, rules, chat template and end tokens. Replicas must agree on it."""
        description: dict[str, Any] = json.loads(described)
        model, unknown = published.tokenizer.model, published.id_of("unk_token")
        self._encoders = Encoders(description, model, self.end_ids, unknown)
        self._detokenizer = Detokenizer(description, self._encoders.id_to_token)
        self._template = _template(published)
        self._limit_to(UNLIMITED)

    def within(self, window: int) -> SegmentTokenizer:
        """The same for a window of so many tokens: text that cannot fit it is refused early.

        With `ContextTooLong`, as soon as that is certain, and never if it would have fit.
        """
        limited = copy(self)
        limited._limit_to(window)  # noqa: SLF001 (of this class)
        return limited

    def _limit_to(self, window: int) -> None:
        self._window = window
        self._prompt = lru_cache(_PROMPTS_KEPT)(self._tokenized)
        self._segment = lru_cache(_SEGMENTS_KEPT)(self._continued)

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
            check_fits(len(ids), self._window)
            ids += self._ids_after(before, context.prompt, segment)
            before = segment or before
        return tuple(ids)

    def segment_ids(self, text: str, context: Context) -> TokenIds:
        """The ids by which `text` extends `context`. May be empty: some tokenizers drop whitespace.

        Raises:
            InvalidArgument: like `prompt_ids`.
        """
        return self._ids_after(_last_segment(context), context.prompt, text)

    def offsets(self, candidate: Candidate, context: Context) -> Offsets:
        """Where each of a candidate's tokens begins, in UTF-8 bytes of its text.

        One for each of its `segment_ids`, then the end token's, which begins where the text ends.

        Raises:
            InvalidArgument: like `prompt_ids`.
        """
        text = candidate.text
        marker = " " if text and self.opens_marked(context) else ""
        pieces = list(map(self.spell, self.segment_ids(text, context)))
        marked = f"{marker}{text}"
        found = of_spelling(marked, pieces)
        if found is None:
            found = of_spans(marked, self._encoders.spans(marked))
        ends = (len(text.encode()),) if candidate.finished else ()
        return (*(max(0, offset - len(marker)) for offset in found), *ends)

    def whole_ids(self, text: str) -> TokenIds:
        """The ids that the tokenizer itself gives a text, as a server does that is sent the text.

        Special tokens that the text spells are taken for such; none are added.
        """
        return self._encoders.whole(text)

    def sent_ids(self, text: str) -> TokenIds:
        """The ids that a server gives a text that it is sent, those that begin every text included.

        Special tokens that the text spells are taken for such.
        """
        return self._encoders.sent(text)

    def rendered(self, prompt: Prompt) -> str:
        """A prompt as text: a conversation by the chat template, raw text as it stands.

        Raises:
            InvalidArgument: like `prompt_ids`.
        """
        if isinstance(prompt, str):
            return prompt
        text, literals = self._rendered(prompt)
        return replaced(text, literals)

    def token_text(self, token: int) -> str:
        """A special token as a text spells it."""
        return self._encoders.id_to_token(token) or ""

    def special_ids(self, ids: TokenIds) -> TokenIds:
        """Those of some ids that no text of a request becomes here."""
        return tuple(token for token in ids if token in self._encoders.specials)

    def is_plain(self, text: str) -> bool:
        """Whether a server that is sent a text takes no part of it for a special token."""
        return self._encoders.is_plain(text)

    def draft(self, context: Context) -> Draft:
        """An empty draft of the segment that follows `context`.

        Raises:
            InvalidArgument: like `prompt_ids`.
        """
        return Draft(
            self.spell,
            partial(self.segment_ids, context=context),
            opens_marked=self.opens_marked(context),
        )

    def spell(self, token: int) -> bytes:
        """The bytes, not always of whole characters, that a drafted token adds to the text."""
        return self._detokenizer.spell(token)

    def opens_marked(self, context: Context) -> bool:
        """Whether a space at the beginning of what follows `context` stands for nothing.

        This is so where the tokenizer itself would put one (at the start of an answer, after a
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

    def _continued(self, text: str) -> TokenIds:
        return self._encoders.continuation(text, self._window)

    def _tokenized(self, prompt: Prompt) -> _Prompt:
        if isinstance(prompt, str):
            text, ids = prompt, self._encoders.raw(prompt, self._window)
        else:
            text, literals = self._rendered(prompt)
            ids = self._encoders.rendered(text, literals, self._window)
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
            {"role": m.role.value, "content": replaced(m.content, stand_ins)} for m in messages
        ]
        return self._apply_template(guarded), {char: spelt for spelt, char in stand_ins.items()}

    def _stand_ins(self, contents: list[str]) -> dict[str, str]:
        """A character that occurs in none of `contents` for each special token spelt in them."""
        spelt = set().union(*map(self._encoders.specials_in, contents))
        if not spelt:
            return {}
        used = set().union(*map(_PRIVATE_USE.findall, contents))
        unused = (chr(code) for code in _PRIVATE_CODES if chr(code) not in used)
        stand_ins = dict(zip(sorted(spelt, key=len, reverse=True), unused, strict=False))
        if len(stand_ins) < len(spelt):
            raise InvalidArgument(
                "context.conversation", f"spells {len(spelt)} special tokens; spell fewer"
            )
        return stand_ins

    def _apply_template(self, conversation: list[dict[str, str]]) -> str:
        if self._template is None:
            raise InvalidArgument(
                "context.conversation", "the model has no chat template; send a raw_prompt instead"
            )
        return self._template.render(conversation)


def _template(published: PublishedTokenizer) -> ChatTemplate | None:
    """The chat template; of several, the one that is for no purpose of its own."""
    template = published.chat_template
    source = template.get("default") if isinstance(template, dict) else template
    return ChatTemplate(source, published.special_tokens) if source else None


def _described(tokenizer: Tokenizer) -> str:
    """The tokenizer's JSON. From here on it neither pads nor truncates."""
    tokenizer.no_padding()
    tokenizer.no_truncation()
    described: str = tokenizer.to_str()
    return described


def _last_segment(context: Context) -> str:
    """The last committed segment that is not empty, or an empty string."""
    return next((segment for segment in reversed(context.committed) if segment), "")


def _digest(described: str, chat_template: object, end_ids: TokenIds) -> str:
    rest = json.dumps([chat_template, end_ids], sort_keys=True)
    return hashlib.sha256(f"{described}\n{rest}".encode()).hexdigest()[:32]
