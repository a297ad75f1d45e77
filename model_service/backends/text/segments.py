"""When a segment in the making is at its end: one rule for every backend that drafts tokens."""

from __future__ import annotations

from dataclasses import dataclass

from model_service.backends.text.drafts import Draft, DraftedText
from model_service.backends.text.tokenizer import SegmentTokenizer
from model_service.core.text import stop_end
from model_service.core.types import ProposeRequest, SegmentFinish


@dataclass(frozen=True, slots=True)
class Ending:
    """How a draft ended: its final text, and why."""

    segment: DraftedText
    finish: SegmentFinish


class SegmentDraft:
    """The segment that a request asks for, in the making."""

    def __init__(self, tokenizer: SegmentTokenizer, request: ProposeRequest) -> None:
        self._draft: Draft = tokenizer.draft(request.context)
        self._end_ids = tokenizer.end_ids
        self._request = request
        self._preceding = "".join(request.context.committed)

    def __len__(self) -> int:
        return len(self._draft)

    def take(self, token: int) -> Ending | None:
        """Takes the next token. Says how the draft ended, if it has.

        It ends with the model's end token, which adds nothing to it, before a stop string is looked
        for, and with a stop string before the limit is.
        """
        if token in self._end_ids:
            return self.end()
        self._draft.append(token)
        stop = stop_end(self._draft.text, self._request.stop, self._preceding)
        if stop is not None:
            return Ending(self._draft.until(stop), SegmentFinish.STOP)
        return self.cut() if len(self._draft) == self._request.max_tokens else None

    def end(self) -> Ending:
        """Ends a draft because the model ended its answer."""
        return Ending(self._draft.whole(), SegmentFinish.END)

    def cut(self) -> Ending:
        """Ends a draft that is given no more tokens."""
        return Ending(self._draft.cut(), SegmentFinish.LENGTH)
