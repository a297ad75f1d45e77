"""The spans of a query: of all of it, of each round, and of each phase in that."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

from opentelemetry.trace import Span, Tracer, get_current_span, set_span_in_context

from fuser_service.core.commit import Commit
from fuser_service.core.types import MemberName
from fuser_service.fusion.events import Finished
from fuser_service.fusion.ports import Outcome, Rpc
from fuser_service.fusion.query import Query
from specfuse.observability.tracing import spans
from specfuse.observability.tracing.conventions import (
    ACTIVE_MEMBERS,
    DEGRADED,
    FINISH_REASONS,
    INPUT_TOKENS,
    MEMBER,
    MEMBERS,
    OPERATION,
    OUTCOME,
    OUTPUT_TOKENS,
    ROUND,
    ROUNDS,
    TOKENS,
    WINNER,
    WORKFLOW,
)


class QuerySpans:
    """Makes the spans of a query, while the context lasts; none if its caller's is not traced.

    A query is told of event by event, in a context that it shares with its caller. So none of them
    is the current span but a phase's, while members are asked: their calls belong to it.
    """

    def __init__(self, tracer: Tracer, query: Query) -> None:
        self._tracer = tracer
        self._query = query
        self._whole: Span | None = None
        self._round: Span | None = None

    def round_began(self, number: int, members: int) -> None:
        """A round begins with this many members."""
        if self._whole is not None:
            self._end_round()
            self._round = self._within(self._whole, "round")
            self._round.set_attribute(ROUND, number)
            self._round.set_attribute(ACTIVE_MEMBERS, members)

    def phase(self, rpc: Rpc, members: Collection[MemberName]) -> AbstractContextManager[Span]:
        """A phase of the round, in which these members are asked."""
        if self._round is None:
            return spans.UNTRACED
        phase = self._within(self._round, rpc)
        phase.set_attribute(MEMBERS, tuple(members))
        return spans.current(phase)

    def missed(self, member: MemberName, outcome: Outcome) -> None:
        """A member did not answer in the phase that is under way."""
        if self._round is not None:
            told = {MEMBER: member, OUTCOME: outcome}
            get_current_span().add_event("missed", told)

    def committed(self, commit: Commit) -> None:
        """The round ends with a segment."""
        if self._round is not None:
            self._round.set_attribute(WINNER, commit.round.winner)
            self._round.set_attribute(TOKENS, commit.round.token_count)
            self._end_round()

    def finished(self, answer: Finished) -> None:
        """The answer is complete."""
        if self._whole is not None:
            self._whole.set_attribute(ROUNDS, answer.rounds)
            self._whole.set_attribute(DEGRADED, answer.degraded)
            self._whole.set_attribute(INPUT_TOKENS, answer.prompt_tokens)
            self._whole.set_attribute(OUTPUT_TOKENS, answer.output_tokens)
            self._whole.set_attribute(FINISH_REASONS, (answer.reason.value,))
            self._end()

    def __enter__(self) -> Self:
        if spans.traced():
            name = self._query.ensemble
            self._whole = self._tracer.start_span(f"fuse {name}")
            self._whole.set_attribute(OPERATION, "invoke_workflow")
            self._whole.set_attribute(WORKFLOW, name)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end(exc)

    def _within(self, parent: Span, name: str) -> Span:
        return self._tracer.start_span(name, context=set_span_in_context(parent))

    def _end(self, error: BaseException | None = None) -> None:
        self._end_round(error)
        if self._whole is not None:
            spans.end(self._whole, error)
            self._whole = None

    def _end_round(self, error: BaseException | None = None) -> None:
        if self._round is not None:
            spans.end(self._round, error)
            self._round = None
