"""The spans of queries over scripted members: which there are, within which, and how they end."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from opentelemetry import context as contexts
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    StatusCode,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)

from fuser_service.core.rules import ExitKind, ExitRules, Rules, Vote
from fuser_service.core.types import Context, Message, Proposal, Role
from fuser_service.fusion.events import Finished, RoundCommitted
from fuser_service.fusion.query import Query, Timings
from fuser_service.fusion.runner import Fusion
from specfuse.deadline import Deadline
from specfuse.errors import ModelFailure, QuorumLost
from specfuse.observability.tracing.conventions import CANCELLED, ERROR_TYPE
from specfuse.observability.tracing.current import attached
from tests.support.members import RecordingObserver, ScriptedMember, likes, says
from tests.support.recorded_spans import RecordedSpans

SECRET = "Xyzzy"


class Traced:
    """A fusion over members, whose spans are recorded."""

    def __init__(self, *members: ScriptedMember, grace: float = 30.0) -> None:
        self.members = {member.name: member for member in members}
        self.recorder = RecordedSpans()
        self.fusion = Fusion(self.members, RecordingObserver(), tracer=self.recorder.tracer)
        self.grace = grace

    def query(self, quorum: int = 1) -> Query:
        rules = Rules(
            members=tuple(self.members),
            max_tokens=50,
            vote=Vote.SEGMENTS,
            exit=ExitRules(kind=ExitKind.NONE),
            quorum=quorum,
        )
        prompt = (Message(Role.USER, SECRET),)
        return Query("all", rules, prompt, session_id="s1", timings=Timings(self.grace, 30))

    async def answer(self, quorum: int = 1) -> None:
        with self.recorder.caller() as caller:
            async for _ in self.fusion.run(self.query(quorum), Deadline.after(30)):
                assert get_current_span() is caller, "a span of the query is seen by its caller"


def two() -> tuple[ScriptedMember, ScriptedMember]:
    return (
        ScriptedMember("a", says(f" {SECRET} one", " two"), likes("one", "two")),
        ScriptedMember("b", says(f" {SECRET} other", " more"), likes("one", "two")),
    )


async def test_a_query_its_rounds_and_their_phases_are_a_tree() -> None:
    traced = Traced(*two())
    await traced.answer()
    a_round = {"round": ["propose", "score"]}
    assert traced.recorder.tree() == {"caller": [{"fuse all": [a_round, a_round]}]}
    (whole,) = traced.recorder.ended("fuse all")
    assert whole.attributes == {
        "gen_ai.operation.name": "invoke_workflow",
        "gen_ai.workflow.name": "all",
        "gen_ai.usage.input_tokens": 0,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.response.finish_reasons": ("stop",),
        "specfuse.rounds": 2,
        "specfuse.degraded": False,
    }
    first, second = traced.recorder.ended("round")
    assert first.attributes == {
        "specfuse.round": 1,
        "specfuse.active_members": 2,
        "specfuse.winner": "a",
        "specfuse.tokens": 2,
    }
    assert second.attributes["specfuse.round"] == 2
    for phase in traced.recorder.ended("propose", "score"):
        assert phase.attributes == {"specfuse.members": ("a", "b")}
    assert all(one.status.status_code is StatusCode.UNSET for one in traced.recorder.ended())


async def test_calls_of_members_belong_to_the_phase() -> None:
    seen = []

    def proposes(context: Context) -> Proposal:
        seen.append(get_current_span())
        return says("one")(context)

    traced = Traced(ScriptedMember("a", proposes))
    await traced.answer()
    assert [one.get_span_context() for one in seen] == [
        one.context for one in traced.recorder.ended("propose")
    ]


async def test_who_fails_or_is_late_is_told_with_the_phase() -> None:
    a, b = two()
    late = ScriptedMember("late", says("late"), hold={"propose": asyncio.Event()})
    failing = ScriptedMember("failing", lambda _: ModelFailure(SECRET))
    traced = Traced(a, b, late, failing, grace=0.01)
    await traced.answer(quorum=2)
    (first, *_) = traced.recorder.ended("propose")
    assert {tuple(sorted((event.attributes or {}).items())) for event in first.events} == {
        (("specfuse.member", "failing"), ("specfuse.outcome", "failed")),
        (("specfuse.member", "late"), ("specfuse.outcome", "late")),
    }
    (whole,) = traced.recorder.ended("fuse all")
    assert whole.attributes["specfuse.degraded"] is True


async def test_an_error_ends_all_with_its_reason_and_none_of_its_words() -> None:
    traced = Traced(ScriptedMember("a", lambda _: ModelFailure(SECRET)))
    with pytest.raises(QuorumLost):
        await traced.answer()
    assert traced.recorder.tree() == {"caller": [{"fuse all": [{"round": ["propose"]}]}]}
    for one in traced.recorder.ended("fuse all", "round"):
        assert one.status.status_code is StatusCode.ERROR
        assert one.attributes[ERROR_TYPE] == "QUORUM_LOST"
    assert not any(SECRET in one.to_json() for one in traced.recorder.ended())


async def test_whoever_goes_away_during_a_phase_ends_all_as_cancelled() -> None:
    a, b = two()
    a.hold["score"] = b.hold["score"] = asyncio.Event()
    traced = Traced(a, b)
    asking = asyncio.create_task(traced.answer())
    await a.waiting.get()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert traced.recorder.tree() == {"caller": [{"fuse all": [{"round": ["propose", "score"]}]}]}
    cancelled = {one.name: (one.attributes or {}).get(CANCELLED) for one in traced.recorder.ended()}
    assert cancelled == {
        "caller": True, "fuse all": True, "round": True, "propose": None, "score": True
    }  # fmt: skip
    assert all(one.status.status_code is StatusCode.UNSET for one in traced.recorder.ended())


async def test_whoever_goes_away_between_rounds_leaves_no_round_open() -> None:
    traced = Traced(*two())
    with traced.recorder.caller():
        async with aclosing(traced.fusion.run(traced.query(), Deadline.after(30))) as events:
            async for event in events:
                if isinstance(event, RoundCommitted):
                    break
    assert len(traced.recorder.ended("round")) == 1
    (whole,) = traced.recorder.ended("fuse all")
    assert whole.attributes[CANCELLED] is True


async def test_an_answer_whose_end_is_not_waited_for_is_complete() -> None:
    traced = Traced(*two())
    with traced.recorder.caller():
        async with aclosing(traced.fusion.run(traced.query(), Deadline.after(30))) as events:
            while not isinstance(await anext(events), Finished):
                pass
    (whole,) = traced.recorder.ended("fuse all")
    assert CANCELLED not in whole.attributes


@pytest.mark.parametrize("flags", [None, TraceFlags(0)], ids=["no trace", "not recorded"])
async def test_nothing_is_made_outside_of_a_trace_that_is_recorded(flags: int | None) -> None:
    traced = Traced(*two())
    context = contexts.Context()
    if flags is not None:
        parent = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(flags))
        context = set_span_in_context(NonRecordingSpan(parent), context)
    with attached(context):
        async for _ in traced.fusion.run(traced.query(), Deadline.after(30)):
            pass
    assert not traced.recorder.ended()
