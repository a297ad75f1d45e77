"""Contexts and candidates as the text that the server is sent, and the ids that it makes of it.

The server tokenizes the whole text anew, so the ids are not those by which a context grows here:

    text       "Hello, wor" + "ld"
    here       [Hello] [,] [ wor]  [ld]     every segment on its own
    there      [Hello] [,] [ world]         a token across the boundary

A candidate is then all tokens from the first that differs from the context's own: here one, which
says more than the candidate. What the server will make of a text is found by our copy of its
tokenizer, and compared with what it says it has scored (`prefill`).

Special tokens. The server takes text for special tokens, whoever wrote it. So a request that spells
one is refused: it is never another text here than with other backends.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from model_service.backends.remote.server import TokenizedContext
from model_service.backends.text.encoders import TokenIds
from model_service.backends.text.tokenizer import SegmentTokenizer
from model_service.core.types import Candidate, Context
from specfuse.errors import InvalidArgument, Misconfigured

_LETTER: Final = "a"


@dataclass(frozen=True, slots=True)
class Sent:
    """A text, and the ids that the server makes of it."""

    text: str
    ids: TokenIds


@dataclass(frozen=True, slots=True)
class Continued:
    """A context with a candidate after it: the first `shared` ids are the context's own."""

    sent: Sent
    shared: int

    @property
    def new(self) -> TokenIds:
        """The ids that stand for the candidate, and for what has merged with it."""
        return self.sent.ids[self.shared :]


class Texts:
    """What a server with this tokenizer is sent. Safe to share between threads."""

    def __init__(self, tokenizer: SegmentTokenizer) -> None:
        """Finds out what the tokenizer puts around a text.

        Raises:
            Misconfigured: a text cannot be continued, or cannot be ended.
        """
        self._tokenizer = tokenizer
        letter = tokenizer.sent_ids(_LETTER)
        if tokenizer.special_ids(letter[-1:]):
            raise Misconfigured("tokenizer: it ends every text, so none can be continued")
        self._beginning = tokenizer.special_ids(letter)
        self._beginning_text = "".join(map(tokenizer.token_text, self._beginning))
        self._end = tokenizer.end_ids[0]
        self._end_text = tokenizer.token_text(self._end)
        if tokenizer.sent_ids(_LETTER + self._end_text)[-1] != self._end:
            raise Misconfigured("tokenizer: its end token cannot be written as text")

    def context(self, context: TokenizedContext) -> Sent:
        """A context.

        Raises:
            InvalidArgument: it spells a special token, or the chat template refuses it.
        """
        for field, text in _fields(context.context):
            self._check_plain(field, text)
        prompt = self._tokenizer.rendered(context.context.prompt)
        text = prompt.removeprefix(self._beginning_text) + "".join(context.context.committed)
        sent = Sent(text, self._tokenizer.sent_ids(text))
        if self._specials(sent.ids) != self._specials(context.ids):
            raise _spells_special("context")
        return sent

    def continued(self, before: Sent, candidate: Candidate, field: str) -> Continued:
        """A candidate after a context; `field` is where the request has its text.

        Raises:
            InvalidArgument: it spells a special token, adds no token to the context, or has become
                one token with all of it, of which nothing can be told.
        """
        self._check_plain(field, candidate.text)
        continued = self.appended(before, candidate)
        end = (self._end,) if candidate.finished else ()
        if self._specials(continued.sent.ids) != self._specials(before.ids) + end:
            raise _spells_special(field)
        if not continued.new:
            raise InvalidArgument(field, "adds no tokens to the context for this model")
        if continued.shared == 0:
            raise InvalidArgument(
                field, "is one token with the whole context, of which the server tells nothing"
            )
        return continued

    def appended(self, before: Sent, candidate: Candidate) -> Continued:
        """A candidate after a context, whatever it spells."""
        end = self._end_text if candidate.finished else ""
        text = before.text + candidate.text + end
        ids = self._tokenizer.sent_ids(text)
        return Continued(Sent(text, ids), _shared(before.ids, ids))

    def _check_plain(self, field: str, text: str) -> None:
        if not self._tokenizer.is_plain(text):
            raise _spells_special(field)

    def _specials(self, ids: TokenIds) -> TokenIds:
        """The special tokens after those that begin every text."""
        begun = len(self._beginning)
        after = ids[begun:] if ids[:begun] == self._beginning else ids
        return self._tokenizer.special_ids(after)


def _fields(context: Context) -> Iterator[tuple[str, str]]:
    """Every text of a request's context, and its field's name."""
    if isinstance(context.prompt, str):
        yield "context.raw_prompt", context.prompt
    else:
        for index, message in enumerate(context.prompt):
            yield f"context.conversation.messages[{index}].content", message.content
    for index, segment in enumerate(context.committed):
        yield f"context.committed_segments[{index}]", segment


def _shared(one: TokenIds, other: TokenIds) -> int:
    """How many ids two texts have in common from their beginning."""
    pairs = zip(one, other, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _spells_special(field: str) -> InvalidArgument:
    return InvalidArgument(
        field,
        "spells a special token of the model, and text-generation-inference would take it for one; "
        "write it differently, or serve the model with another backend",
    )
