"""A call's token ids, checked: the first step of every backend whose model takes tokens."""

from __future__ import annotations

from collections.abc import Sequence

from model_service.backends.text.encoders import TokenIds
from model_service.backends.text.offsets import Offsets
from model_service.backends.text.tokenizer import SegmentTokenizer
from model_service.core.types import Candidate, Context
from specfuse.errors import ContextTooLong, InvalidArgument


class ContextEncoder:
    """Turns contexts and candidates into ids that fit the model's window. Safe between threads."""

    def __init__(self, tokenizer: SegmentTokenizer, window: int) -> None:
        """`window` is the most tokens of context and segment together."""
        self.tokenizer = tokenizer.within(window)
        self.window = window

    def context_ids(self, context: Context, room: int) -> TokenIds:
        """The ids of a context, after which there is room for `room` more tokens.

        Raises:
            ContextTooLong: there is not enough room.
            InvalidArgument: it has no tokens, or the chat template refuses it.
        """
        ids = self._ids(context)
        self._check_window(len(ids) + room)
        return ids

    def branches(
        self, context: Context, candidates: Sequence[Candidate]
    ) -> tuple[TokenIds, tuple[TokenIds, ...]]:
        """The ids of a context, and those of each candidate after it with any end token.

        Raises:
            ContextTooLong: the context and one of the candidates do not fit the window.
            InvalidArgument: there are no candidates, one has no tokens, or as for `context_ids`.
        """
        if not candidates:
            raise InvalidArgument("candidates", "there are none; at least 1 is needed")
        ids = self._ids(context)
        branches: list[TokenIds] = []
        for index, candidate in enumerate(candidates):
            branches.append(self._candidate_ids(index, candidate, context))
            self._check_window(len(ids) + len(branches[-1]))
        return ids, tuple(branches)

    def offsets(self, context: Context, candidates: Sequence[Candidate]) -> tuple[Offsets, ...]:
        """Where in its text each token of the candidates' `branches` begins, in UTF-8 bytes."""
        return tuple(self.tokenizer.offsets(candidate, context) for candidate in candidates)

    def _ids(self, context: Context) -> TokenIds:
        ids = self.tokenizer.context_ids(context)
        if not ids:
            raise InvalidArgument("context", "it encodes to no tokens for this model; 1 is needed")
        return ids

    def _candidate_ids(self, index: int, candidate: Candidate, context: Context) -> TokenIds:
        ids = self.tokenizer.segment_ids(candidate.text, context)
        if not ids and (candidate.text or not candidate.finished):
            raise InvalidArgument(
                f"candidates[{index}].text", "it encodes to no tokens for this model; 1 is needed"
            )
        return (*ids, self.tokenizer.end_ids[0]) if candidate.finished else ids

    def _check_window(self, tokens: int) -> None:
        if tokens > self.window:
            raise ContextTooLong(tokens=tokens, window=self.window)
