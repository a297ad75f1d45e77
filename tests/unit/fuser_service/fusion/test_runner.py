"""Queries over scripted members: events, calls, counts, failures, deadlines, cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Literal

import pytest

from fuser_service.core.rules import ExitKind, ExitRules, Rules, Vote
from fuser_service.core.types import (
    Candidate,
    Context,
    DepartureReason,
    Evidence,
    FinishReason,
    Message,
    Proposal,
    Role,
    Sampling,
    Score,
)
from fuser_service.fusion.effort import Effort
from fuser_service.fusion.events import Event, Finished, RoundCommitted, Started
from fuser_service.fusion.ports import Rpc
from fuser_service.fusion.query import Query, Timings
from fuser_service.fusion.runner import Fusion
from specfuse.deadline import Deadline
from specfuse.errors import (
    ContextTooLong,
    DeadlineExceeded,
    InvalidArgument,
    Overloaded,
    QuorumLost,
    SpecFuseError,
    Unavailable,
)
from tests.support.members import (
    END,
    RecordingObserver,
    ScriptedMember,
    likes,
    proposal,
    says,
    score,
)

PROMPT = (Message(Role.USER, "two things, please"),)
STAY = ExitRules(kind=ExitKind.NONE)
LEAVE = ExitRules(kind=ExitKind.ENTROPY_SOFTMAX, recall=False)
RECALL = replace(LEAVE, recall=True)
WATCH = ExitRules(kind=ExitKind.WATCH)
PATIENT = Timings(straggler_grace_seconds=30, round_timeout_seconds=30)


class Ensemble:
    """Scripted members, the fusion over them, and its observer."""

    def __init__(self, *members: ScriptedMember) -> None:
        self.members = {member.name: member for member in members}
        self.observer = RecordingObserver()
        self.fusion = Fusion(self.members, self.observer)

    def query(self, *, timings: Timings = PATIENT, **rules: object) -> Query:
        settings = {"max_tokens": 50, "exit": STAY, **rules}
        return Query(
            ensemble="all",
            rules=Rules(members=tuple(self.members), **settings),  # type: ignore[arg-type]
            prompt=PROMPT,
            session_id="s1",
            timings=timings,
        )

    def run(self, query: Query, deadline: Deadline | None = None) -> AsyncGenerator[Event, None]:
        return self.fusion.run(query, deadline or Deadline.after(30))

    async def answer(self, query: Query) -> tuple[str, Finished]:
        events = [event async for event in self.run(query)]
        finished = events[-1]
        assert isinstance(finished, Finished)
        return _text(events) + finished.text, finished


def _text(events: list[Event]) -> str:
    return "".join(event.round.text for event in events if isinstance(event, RoundCommitted))


def agreeing(_context: Context, _candidate: Candidate) -> Score:
    """Would have written the same."""
    return score(0.9)._replace(evidence=Evidence(0.0, 0.0, 0, 0.1, -0.1, 0))


def failing(error: Exception, after: int = 0):  # type: ignore[no-untyped-def]
    """Says the parts of an answer until so many are committed; then fails."""
    return lambda context: proposal(" so", tokens=1) if len(context.committed) < after else error


# The answer


async def test_an_answer_of_two_experts() -> None:
    a = ScriptedMember("a", says(" one", " zwei"), likes(" one", " two"))
    b = ScriptedMember("b", says(" eins", " two"), likes(" one", " two"))
    ensemble = Ensemble(a, b)
    events = [event async for event in ensemble.run(ensemble.query())]
    started, first, second, finished = events
    assert started == Started("all", ("a", "b"), "s1")
    assert isinstance(first, RoundCommitted)
    assert isinstance(second, RoundCommitted)
    assert isinstance(finished, Finished)
    assert (first.round.text, first.round.winner) == (" one", "a")
    assert (second.round.text, second.round.winner) == (" two", "b")
    assert 0 <= first.propose_seconds + first.score_seconds <= first.total_seconds
    assert finished.reason is FinishReason.STOP
    assert (finished.rounds, finished.output_tokens) == (2, 2)
    assert (finished.propose_made, finished.propose_avoided) == (4, 0)
    assert (finished.score_made, finished.score_avoided) == (4, 0)
    assert not finished.degraded


async def test_a_round_in_which_nobody_drafts_takes_no_time_to_propose() -> None:
    a = ScriptedMember("a", says(" it is black"), likes(" it is", " black"))
    b = ScriptedMember("b", says(" it is pink"), likes(" it is", " black"))
    ensemble = Ensemble(a, b)
    events = [event async for event in ensemble.run(ensemble.query(vote=Vote.WORDS))]
    _, first, second, *_, finished = events
    assert isinstance(first, RoundCommitted)
    assert isinstance(second, RoundCommitted)
    assert isinstance(finished, Finished)
    assert (first.round.text, second.round.text) == (" it is", " black")
    assert first.propose_seconds > 0 == second.propose_seconds
    assert finished.propose_made == 2
    assert finished.passes == sum(ensemble.observer.passes.values())


async def test_what_it_takes_is_known_however_it_ends() -> None:
    a = ScriptedMember("a", lambda _: replace(proposal(" so", tokens=3), context_tokens=7))
    b = ScriptedMember("b", failing(Unavailable("gone"), after=0))
    ensemble, effort = Ensemble(a, b), Effort()
    events = ensemble.fusion.run(ensemble.query(max_tokens=6), Deadline.after(30), effort)
    assert isinstance(await anext(events), Started)
    assert effort == Effort()
    assert isinstance(await anext(events), RoundCommitted)
    await events.aclose()
    assert (effort.prompt_tokens, effort.output_tokens) == (7, 3)
    assert effort.made["propose"] == 2

    rest = ensemble.fusion.run(ensemble.query(max_tokens=6), Deadline.after(30), whole := Effort())
    *_, finished = [event async for event in rest]
    assert isinstance(finished, Finished)
    assert (finished.prompt_tokens, finished.output_tokens) == (7, whole.output_tokens)
    assert finished.propose_made == whole.made["propose"]


async def test_what_members_are_asked() -> None:
    member = ScriptedMember("a", says(" nil", " one", " two"))
    ensemble = Ensemble(member)
    query = replace(
        ensemble.query(stop=("#",), segment_tokens=7),
        sampling=Sampling(temperature=0.5, seed=11),
        committed_segments=(" nil",),
        committed_tokens=45,
    )
    await ensemble.answer(query)
    first, second = member.asked
    assert first.context == Context(PROMPT, (" nil",), "s1")
    assert second.context == Context(PROMPT, (" nil", " one"), "s1")
    assert (first.max_tokens, second.max_tokens) == (5, 4)
    assert first.stop == ("#",)
    assert first.deadline <= Deadline.after(30)
    assert first.sampling is not None
    assert second.sampling is not None
    assert first.sampling.temperature == 0.5


async def test_every_segment_draws_with_a_seed_of_its_own_that_resumption_repeats() -> None:
    def seeds(member: ScriptedMember) -> list[int]:
        return [asked.sampling.seed for asked in member.asked if asked.sampling]

    whole, rest = (
        ScriptedMember("a", says(" a", " b", " c")),
        ScriptedMember("a", says("", " b", " c")),
    )
    query = replace(Ensemble(whole).query(), sampling=Sampling(temperature=1.0, seed=2**64 - 1))
    await Ensemble(whole).answer(query)
    await Ensemble(rest).answer(replace(query, committed_segments=(" a",), committed_tokens=1))
    assert seeds(whole)[0] == 2**64 - 1
    assert len(set(seeds(whole))) == 3
    assert all(0 <= seed < 2**64 for seed in seeds(whole))
    assert seeds(rest) == seeds(whole)[1:]


async def test_a_resumed_answer_may_be_complete_without_a_call() -> None:
    member = ScriptedMember("a", says(" one"))
    ensemble = Ensemble(member)
    query = ensemble.query(stop=("##",), max_tokens=3)
    query = replace(query, committed_segments=(" x #",), committed_tokens=3)
    text, finished = await ensemble.answer(query)
    assert (text, finished.reason) == ("#", FinishReason.LENGTH)
    assert (finished.rounds, finished.output_tokens, member.asked) == (0, 0, [])


# Counts


async def test_everything_is_counted_once() -> None:
    always = likes(" one", " two")
    a = ScriptedMember("a", says(" one", " two", end=False), always)
    b = ScriptedMember("b", says(" eins eins", " two", end=False), always)
    ensemble = Ensemble(a, b)
    _, finished = await ensemble.answer(ensemble.query(max_tokens=2))
    observer = ensemble.observer
    assert finished.reason is FinishReason.LENGTH
    assert sorted(observer.calls) == sorted(
        [(m, "propose", "ok") for m in "ab"] * 2 + [(m, "score", "ok") for m in "ab"]
    )
    assert observer.avoided == {("a", "consensus"): 1, ("b", "consensus"): 1}
    assert (finished.score_made, finished.score_avoided) == (2, 2)
    assert observer.phases == [
        ("all", "propose"),
        ("all", "score"),
        ("all", "total"),
        ("all", "propose"),
        ("all", "total"),
    ]
    assert observer.won == ["a", "a"]
    assert observer.discarded == {"b": 2}
    assert observer.active == [2, 2]
    assert observer.left == []
    assert observer.straggled == []


async def test_calls_of_members_that_left_are_counted_as_avoided() -> None:
    a = ScriptedMember("a", says(" one", " two"), likes(" one", " two"))
    b = ScriptedMember("b", says(" eins", " zwei"), likes(" one", " two"))
    ensemble = Ensemble(a, b)
    _, finished = await ensemble.answer(ensemble.query(vote=Vote.SEGMENTS, exit=LEAVE))
    assert ensemble.observer.avoided == {("b", "exit"): 2, ("a", "consensus"): 1}
    assert [departure.reason for departure in ensemble.observer.left] == [DepartureReason.EXIT]
    assert (finished.propose_made, finished.propose_avoided) == (3, 1)
    assert (finished.score_made, finished.score_avoided) == (2, 2)
    assert not finished.degraded
    assert ensemble.observer.active == [2, 1]


async def test_a_round_that_members_came_back_for_is_one_round() -> None:
    # a is sure of " one" and unsure of " zwei"; then b comes back with " two".
    sure = likes(" one", " two", liked=0.9, other=0.2)
    a = ScriptedMember("a", says(" one", " zwei"), sure)
    b = ScriptedMember("b", says(" eins", " two"), sure)
    ensemble = Ensemble(a, b)
    text, finished = await ensemble.answer(ensemble.query(vote=Vote.SEGMENTS, exit=RECALL))
    assert text == " one two"
    assert finished.rounds == 2
    assert ensemble.observer.active == [2, 1]
    assert ensemble.observer.recalled == {"b": 1}
    assert ensemble.observer.phases.count(("all", "score")) == 2
    assert ensemble.observer.avoided == {}
    # Round 1: 2 + 2. Round 2: a proposes, is asked how sure it is, b proposes, both score.
    assert (finished.propose_made, finished.score_made) == (4, 5)


# Failures


async def test_a_member_lost_in_mid_answer_degrades_the_answer() -> None:
    a = ScriptedMember("a", says(" so", " far"))
    b = ScriptedMember("b", failing(Unavailable("connection refused"), after=1))
    ensemble = Ensemble(a, b)
    text, finished = await ensemble.answer(ensemble.query())
    assert text == " so far"
    assert finished.degraded
    (lost,) = finished.lost
    assert (lost.member, lost.reason) == ("b", DepartureReason.FAILED)
    assert lost.detail == "UNAVAILABLE: connection refused"
    assert ensemble.observer.left == [lost]
    assert ("b", "propose", "failed") in ensemble.observer.calls


async def test_losing_all_members_carries_what_was_committed() -> None:
    members = [
        ScriptedMember(name, failing(Unavailable("connection refused"), after=2)) for name in "ab"
    ]
    ensemble = Ensemble(*members)
    query = replace(ensemble.query(), committed_segments=(" and",), committed_tokens=7)
    stream = ensemble.run(query)
    assert isinstance(await anext(stream), Started)
    committed = await anext(stream)
    assert isinstance(committed, RoundCommitted)
    assert committed.round.segment == " so"
    with pytest.raises(QuorumLost) as caught:
        await anext(stream)
    assert caught.value.committed_segments == (" and", " so")
    assert caught.value.committed_tokens == 8
    assert "a: UNAVAILABLE: connection refused" in caught.value.message


async def test_the_lost_answer_can_be_resumed() -> None:
    whole = says(" one", " two", " three")
    broken = lambda context: whole(context) if len(context.committed) < 1 else Unavailable("gone")  # noqa: E731
    ensemble = Ensemble(ScriptedMember("a", broken))
    with pytest.raises(QuorumLost) as caught:
        await ensemble.answer(ensemble.query())
    ensemble.members["a"].proposes = whole
    query = replace(
        ensemble.query(),
        committed_segments=caught.value.committed_segments,
        committed_tokens=caught.value.committed_tokens,
    )
    assert (await ensemble.answer(query))[0] == " two three"


async def test_what_every_member_finds_wrong_is_the_callers_error() -> None:
    wrong = ContextTooLong(tokens=5000, window=4096)
    ensemble = Ensemble(*(ScriptedMember(name, failing(wrong)) for name in "ab"))
    with pytest.raises(ContextTooLong):
        await ensemble.answer(ensemble.query())


async def test_what_only_some_find_wrong_is_not() -> None:
    a = ScriptedMember("a", failing(InvalidArgument("prompt", "refused by the template")))
    b = ScriptedMember("b", failing(Unavailable("connection refused")))
    ensemble = Ensemble(a, b)
    with pytest.raises(QuorumLost):
        await ensemble.answer(ensemble.query())
    b.hold["propose"] = asyncio.Event()
    hasty = Timings(straggler_grace_seconds=0, round_timeout_seconds=0.05)
    with pytest.raises(QuorumLost):
        await ensemble.answer(ensemble.query(timings=hasty))
    b.hold.clear()
    b.proposes = says(" fine")
    text, finished = await ensemble.answer(ensemble.query())
    assert (text, finished.degraded) == (" fine", True)


async def test_what_is_too_long_for_all_that_can_be_reached_is_too_long() -> None:
    a = ScriptedMember("a", failing(ContextTooLong(tokens=5000, window=4096)))
    b = ScriptedMember("b", failing(Unavailable("connection refused")))
    ensemble = Ensemble(a, b)
    with pytest.raises(ContextTooLong):
        await ensemble.answer(ensemble.query())
    b.proposes = failing(Overloaded("full"))
    with pytest.raises(QuorumLost):
        await ensemble.answer(ensemble.query())


async def test_an_answer_that_outgrows_its_members_is_not_lost() -> None:
    wrong = ContextTooLong(tokens=5000, window=4096)
    ensemble = Ensemble(*(ScriptedMember(name, failing(wrong, after=2)) for name in "ab"))
    text, finished = await ensemble.answer(ensemble.query())
    assert (text, finished.reason) == (" so so", FinishReason.LENGTH)
    assert {d.reason for d in finished.lost} == {DepartureReason.REJECTED}


async def test_an_overloaded_member_is_asked_again_in_the_next_round() -> None:
    whole = says(" eins", " zwei", " drei")
    full = Overloaded("8 calls run and 8 wait")
    b = ScriptedMember("b", lambda context: whole(context) if context.committed else full)
    ensemble = Ensemble(ScriptedMember("a", says(" one", " two", " three")), b)
    _, finished = await ensemble.answer(ensemble.query(max_misses=1))
    assert [len(asked.context.committed) for asked in b.asked if asked.rpc == "propose"] == [
        0,
        1,
        2,
    ]
    assert not finished.lost
    assert finished.absent == ("b",)
    assert finished.degraded, "a round was decided without it"
    assert ("b", "propose", "overloaded") in ensemble.observer.calls


async def test_an_answer_names_who_was_late_once_and_stayed() -> None:
    whole = says(" eins", " zwei", " drei")
    b = ScriptedMember("b", whole, hold={"propose": asyncio.Event()})
    ensemble = Ensemble(ScriptedMember("a", says(" one", " two", " three")), b)
    hasty = Timings(straggler_grace_seconds=0.05, round_timeout_seconds=30)
    stream = ensemble.run(ensemble.query(timings=hasty, max_misses=2))
    assert isinstance(await anext(stream), Started)
    assert isinstance(await anext(stream), RoundCommitted)
    b.hold["propose"].set()
    finished = [event async for event in stream][-1]
    assert isinstance(finished, Finished)
    assert (finished.lost, finished.absent, finished.degraded) == ((), ("b",), True)


async def test_if_all_are_overloaded_the_error_says_so() -> None:
    once = ScriptedMember(
        "a", lambda context: Unavailable("gone") if context.committed else proposal(" so")
    )
    full = Overloaded("8 calls run and 8 wait")
    ensemble = Ensemble(once, ScriptedMember("b", lambda _: full))
    with pytest.raises(QuorumLost, match="b: OVERLOADED: 8 calls run") as caught:
        await ensemble.answer(ensemble.query())
    assert "a: UNAVAILABLE: gone" in caught.value.message
    assert caught.value.committed_segments == (" so",)


async def test_what_a_member_said_rounds_ago_is_not_why_the_query_is_lost() -> None:
    a = ScriptedMember("a", failing(Unavailable("gone"), after=1))
    b = ScriptedMember("b", lambda _: Overloaded("full"))
    ensemble = Ensemble(a, b)
    timings = Timings(straggler_grace_seconds=30, round_timeout_seconds=0.05)
    stream = ensemble.run(ensemble.query(timings=timings))
    assert isinstance(await anext(stream), Started)
    assert isinstance(await anext(stream), RoundCommitted)
    b.hold["propose"] = asyncio.Event()
    with pytest.raises(QuorumLost) as caught:
        await anext(stream)
    assert caught.value.message == "fewer than 1 members answered (a: UNAVAILABLE: gone)"


async def test_who_is_only_busy_might_not_find_the_request_wrong() -> None:
    a = ScriptedMember("a", failing(InvalidArgument("prompt", "refused by the template")))
    b = ScriptedMember("b", lambda _: Overloaded("full"))
    ensemble = Ensemble(a, b)
    with pytest.raises(QuorumLost):
        await ensemble.answer(ensemble.query())


# Time


async def test_a_late_member_is_cancelled_and_sits_the_round_out() -> None:
    never = asyncio.Event()
    a = ScriptedMember("a", says(" one", " two"))
    b = ScriptedMember("b", says(" eins", " zwei"), hold={"propose": never})
    ensemble = Ensemble(a, b)
    hasty = Timings(straggler_grace_seconds=0.01, round_timeout_seconds=30)
    text, finished = await ensemble.answer(ensemble.query(timings=hasty, max_misses=2))
    assert text == " one two"
    assert (b.cancelled, b.running) == (2, 0)
    assert ensemble.observer.calls.count(("b", "propose", "late")) == 2
    assert len(ensemble.observer.straggled) == 2
    # The answer ends with the second round, but b was lost in it all the same.
    assert [(d.member, d.reason) for d in finished.lost] == [("b", DepartureReason.STRAGGLER)]


@pytest.mark.parametrize("rpc", ["propose", "score"])
@pytest.mark.parametrize("recall", [True, False])
async def test_if_the_last_active_member_hangs_those_that_stand_by_are_asked(
    rpc: Rpc, recall: bool
) -> None:
    sure = likes(" one", " two", " three", liked=0.9, other=0.05)
    a = ScriptedMember("a", says(" one", " two", " three"), sure)
    b = ScriptedMember("b", says(" eins", " two", " three"), sure)
    ensemble = Ensemble(a, b)
    timings = Timings(straggler_grace_seconds=0.05, round_timeout_seconds=30)
    exits = RECALL if recall else LEAVE
    query = ensemble.query(timings=timings, vote=Vote.SEGMENTS, exit=exits)
    stream = ensemble.run(query)
    events = [await anext(stream), await anext(stream)]
    assert [departure.member for departure in ensemble.observer.left] == ["b"]
    a.hold[rpc] = asyncio.Event()
    async with asyncio.timeout(10):
        events += [event async for event in stream]
    assert _text(events) == " one two three"
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert not finished.text
    assert a.running == 0


async def test_if_who_drafts_hangs_those_that_watch_draft() -> None:
    sure = likes(" one", " two", " three", liked=0.9, other=0.05)
    a = ScriptedMember("a", says(" one", " two", " three"), sure)
    b = ScriptedMember("b", says(" one", " two", " three"), sure)
    ensemble = Ensemble(a, b)
    timings = Timings(straggler_grace_seconds=0.05, round_timeout_seconds=30)
    stream = ensemble.run(ensemble.query(timings=timings, vote=Vote.WORDS, exit=WATCH))
    events = [await anext(stream), await anext(stream)]
    a.hold["propose"] = asyncio.Event()
    async with asyncio.timeout(10):
        events += [event async for event in stream]
    assert _text(events) == " one two three"
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.degraded
    assert a.running == 0


async def test_an_opener_that_hangs_is_relieved_by_those_that_watch() -> None:
    """It has never answered, so nobody knows how long it takes: the grace is all that it gets."""
    whole = says(" one", " two", " three")
    a = ScriptedMember("a", whole, agreeing, hold={"propose": asyncio.Event()})
    ensemble = Ensemble(a, *(ScriptedMember(name, whole, agreeing) for name in "bc"))
    timings = Timings(straggler_grace_seconds=0.02, round_timeout_seconds=1000)
    query = ensemble.query(timings=timings, vote=Vote.WORDS, exit=WATCH, opener="a")
    async with asyncio.timeout(10):
        events = [event async for event in ensemble.run(query, Deadline.after(1000))]
    first, finished = events[1], events[-1]
    assert isinstance(first, RoundCommitted)
    assert isinstance(finished, Finished)
    assert _text(events) == " one two three"
    assert first.round.took_part == ("b", "c")
    assert finished.degraded
    assert [(d.member, d.reason) for d in finished.lost] == [("a", DepartureReason.STRAGGLER)]
    assert (a.running, a.cancelled) == (0, 2)
    assert finished.propose_made == len(
        [call for call in ensemble.observer.calls if call[1] == "propose"]
    )


async def test_an_opener_that_is_only_slow_is_heard_with_those_that_relieve_it() -> None:
    sure = likes(" one", " two", liked=0.9, other=0.05)
    held = asyncio.Event()
    a = ScriptedMember("a", says(" one", " two"), sure, hold={"propose": held})
    b = ScriptedMember("b", says(" eins", " two"), sure, hold={"propose": held})
    ensemble = Ensemble(a, b)
    timings = Timings(straggler_grace_seconds=0.02, round_timeout_seconds=1000)
    query = ensemble.query(timings=timings, vote=Vote.WORDS, exit=WATCH, opener="a")
    stream = ensemble.run(query, Deadline.never())
    await anext(stream)
    first = asyncio.create_task(anext(stream))
    await b.waiting.get()
    timings_left = a.asked[0].deadline.remaining
    later = b.asked[0].deadline.at - a.asked[0].deadline.at
    held.set()
    event = await first
    assert isinstance(event, RoundCommitted)
    assert (event.round.text, event.round.took_part) == (" one", ("a", "b"))
    assert timings_left > 500
    assert later >= 0.02, "who relieves has as long as who was asked first"
    await stream.aclose()
    assert not a.cancelled


async def test_an_objector_is_given_the_time_that_it_takes_and_not_that_of_others() -> None:
    """b gives no evidence, so it is heard by what it drafts; c agrees, and stands by."""

    def agrees(_context: Context, _candidate: Candidate) -> Score:
        return score(0.9)._replace(evidence=Evidence(0.0, 0.0, 0, 0.1, -0.1, 0))

    a = ScriptedMember("a", says(" one"), agrees)
    b = ScriptedMember("b", says(" eins"))
    ensemble = Ensemble(a, b, ScriptedMember("c", says(" one"), agrees))
    timings = Timings(straggler_grace_seconds=0.05, round_timeout_seconds=1000)
    query = ensemble.query(timings=timings, vote=Vote.WORDS, exit=WATCH, opener="a")
    async for _ in ensemble.run(query, Deadline.after(1000)):
        pass
    first = next(asked for asked in b.asked if asked.rpc == "propose")
    assert first.deadline.remaining > 500


async def test_a_member_that_could_not_be_reached_takes_part_again() -> None:
    whole = says(" one", " two", " three")
    flaky = lambda context: Unavailable("reset") if len(context.committed) == 1 else whole(context)  # noqa: E731
    a = ScriptedMember("a", says(" x", " y", " three"), likes(" one", " two", " three"))
    b = ScriptedMember("b", flaky, likes(" one", " two", " three"))
    ensemble = Ensemble(a, b)
    text, finished = await ensemble.answer(ensemble.query())
    assert text == " one y three"
    assert finished.degraded
    assert [asked.rpc for asked in b.asked].count("propose") == 3
    assert not ensemble.observer.recalled, "it had been lost, and not sent away"


async def test_a_step_has_the_time_of_a_whole_round() -> None:
    """What proposing took is not taken from scoring."""
    a, b = ScriptedMember("a", says(" one")), ScriptedMember("b", says(" two"))
    ensemble = Ensemble(a, b)
    timings = Timings(straggler_grace_seconds=10, round_timeout_seconds=10)
    await ensemble.answer(ensemble.query(timings=timings))
    proposing, scoring = a.asked
    assert (proposing.rpc, scoring.rpc) == ("propose", "score")
    assert scoring.deadline > proposing.deadline


async def test_a_round_without_a_quorum_ends_in_time() -> None:
    ensemble = Ensemble(
        ScriptedMember("a", says(" one")),
        ScriptedMember("b", says(" eins"), hold={"propose": asyncio.Event()}),
    )
    timings = Timings(straggler_grace_seconds=30, round_timeout_seconds=0.05)
    with pytest.raises(QuorumLost):
        await ensemble.answer(ensemble.query(timings=timings, quorum=2))
    assert ensemble.members["b"].cancelled == 1


async def test_calls_have_the_earlier_of_the_two_deadlines() -> None:
    member = ScriptedMember("a", says(" one"))
    ensemble = Ensemble(member)
    deadline = Deadline.after(20)
    [_ async for _ in ensemble.run(ensemble.query(), deadline)]
    short = Timings(straggler_grace_seconds=1, round_timeout_seconds=5)
    [_ async for _ in ensemble.run(ensemble.query(timings=short), deadline)]
    assert member.asked[0].deadline == deadline
    assert member.asked[1].deadline <= Deadline.after(5)


async def test_the_requests_deadline_ends_the_query() -> None:
    slow = ScriptedMember("a", says(" one"), hold={"propose": asyncio.Event()})
    ensemble = Ensemble(slow)
    with pytest.raises(DeadlineExceeded):
        [_ async for _ in ensemble.run(ensemble.query(), Deadline.after(0.05))]
    assert (slow.cancelled, slow.running) == (1, 0)


async def test_after_the_deadline_nobody_is_asked() -> None:
    member = ScriptedMember("a", says(" one"))
    ensemble = Ensemble(member)
    with pytest.raises(DeadlineExceeded):
        [_ async for _ in ensemble.run(ensemble.query(), Deadline.after(0))]
    assert member.asked == []


# Drafting ahead


def of_another_mind(_context: Context, _candidate: Candidate) -> Score:
    """Would have written something else from the first word on, and is sure of it."""
    return score(0.01)._replace(evidence=Evidence(4.0, 4.0, 0, 0.1, -4.0, 0))


def watched(ensemble: Ensemble, **rules: object) -> Query:
    """A query in which a opens, the others watch, and drafts are asked for ahead."""
    query = ensemble.query(vote=Vote.WORDS, exit=WATCH, opener="a", **rules)
    return replace(query, draft_ahead=True)


def drafts(member: ScriptedMember) -> list[tuple[str, ...]]:
    """What was committed when the member was asked to draft."""
    return [asked.context.committed for asked in member.asked if asked.rpc == "propose"]


def busy_after_the_first_draft(until: asyncio.Event | None = None) -> ScriptedMember:
    """A member that is long at its second draft."""
    whole = says(" one", " two", " three")

    def draft(context: Context) -> Proposal:
        a.hold["propose"] = until or asyncio.Event()
        return whole(context)

    a = ScriptedMember("a", draft, agreeing)
    return a


async def test_the_next_draft_is_made_while_the_last_one_is_judged() -> None:
    judged, whole = asyncio.Event(), says(" one", " two")

    def draft(context: Context) -> Proposal:
        if context.committed:
            judged.set()
        return whole(context)

    a = ScriptedMember("a", draft, agreeing)
    b = ScriptedMember("b", says(" eins"), agreeing, hold={"score": judged})
    ensemble = Ensemble(a, b)
    events = [event async for event in ensemble.run(watched(ensemble))]
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert _text(events) == " one two"
    assert drafts(a) == [(), (" one",)], "each draft is asked for once"
    assert ensemble.observer.ahead == {True: 1}
    assert finished.discarded_tokens == 0
    calls = [call for call in ensemble.observer.calls if call[1] == "propose"]
    assert calls == [("a", "propose", "ok")] * 2
    assert finished.propose_made == 2


async def test_drafting_ahead_changes_no_answer() -> None:
    """Neither the text, nor who wrote what, nor the seeds that drafts are drawn with."""

    def ensemble() -> Ensemble:
        def judge(context: Context, candidate: Candidate) -> Score:
            other = len(context.committed) == 1 and "zwei" not in candidate.text
            return (of_another_mind if other else agreeing)(context, candidate)

        a = ScriptedMember("a", says(" one", " two", " three", " four"), agreeing)
        return Ensemble(a, ScriptedMember("b", says(" eins", " zwei", " drei", " vier"), judge))

    plain, ahead = ensemble(), ensemble()
    query = watched(ahead)
    without = [event async for event in plain.run(replace(query, draft_ahead=False))]
    with_it = [event async for event in ahead.run(query)]
    assert _text(with_it) == _text(without)
    assert "zwei" in _text(with_it)
    rounds = [
        [e.round for e in events if isinstance(e, RoundCommitted)] for events in (with_it, without)
    ]
    assert rounds[0] == rounds[1]

    def seeds(of: Ensemble) -> set[tuple[object, ...]]:
        asked = (asked for asked in of.members["a"].asked if asked.sampling)
        return {(asked.context.committed, asked.sampling.seed) for asked in asked if asked.sampling}

    assert seeds(plain) <= seeds(ahead)
    assert ahead.observer.ahead[False] == 1


async def test_a_draft_made_ahead_in_vain_is_discarded_and_counted() -> None:
    """b objects to the second draft when the third is already made."""
    judged = asyncio.Event()

    def judge(context: Context, candidate: Candidate) -> Score:
        return (of_another_mind if context.committed else agreeing)(context, candidate)

    a = ScriptedMember("a", says(" one", " two", " three"), agreeing)
    b = ScriptedMember("b", says(" eins", " zwei", " drei"), judge, hold={"score": judged})
    ensemble = Ensemble(a, b)
    answer = asyncio.create_task(ensemble.answer(watched(ensemble, max_tokens=3)))
    await b.waiting.get()
    judged.set()
    _, finished = await answer
    assert ensemble.observer.ahead[False] >= 1
    assert drafts(a)[:2] == [(), (" one",)]
    proposed = [call for call in ensemble.observer.calls if call[1] == "propose"]
    assert finished.propose_made == len(proposed)
    assert finished.passes == sum(ensemble.observer.passes.values())
    assert finished.discarded_tokens == sum(ensemble.observer.discarded.values())


async def test_a_draft_that_is_still_being_made_when_it_is_in_vain_is_cancelled() -> None:
    a = busy_after_the_first_draft()
    b = ScriptedMember("b", says(" eins", " zwei"), of_another_mind)
    ensemble = Ensemble(a, b)
    stream = ensemble.run(watched(ensemble))
    await anext(stream)
    event = await anext(stream)
    assert isinstance(event, RoundCommitted)
    assert event.round.objected == ("b",)
    assert ensemble.observer.ahead == {False: 1}
    assert (a.cancelled, a.running) == (1, 0)
    assert ("a", "propose", "cancelled") in ensemble.observer.calls
    await stream.aclose()


@pytest.mark.parametrize("how", ["closed", "cancelled"])
async def test_who_goes_away_ends_a_draft_that_is_made_ahead(how: str) -> None:
    a = busy_after_the_first_draft()
    b = ScriptedMember("b", says(" eins"), agreeing, hold={"score": asyncio.Event()})
    ensemble = Ensemble(a, b)
    stream = ensemble.run(watched(ensemble))
    await anext(stream)
    first = asyncio.create_task(anext(stream))
    await b.waiting.get()
    await a.waiting.get()
    if how == "closed":
        b.hold.pop("score").set()
        await first
        await stream.aclose()
    else:
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
    assert [(member.running, member.left) for member in (a, b)] == [(0, 1), (0, 1)]
    assert a.cancelled == 1


async def test_a_failure_ahead_is_one_of_the_next_round() -> None:
    whole = says(" one", " two", " three")
    broken = lambda context: Unavailable("reset") if len(context.committed) == 1 else whole(context)  # noqa: E731
    a = ScriptedMember("a", broken, agreeing)
    ensemble = Ensemble(a, ScriptedMember("b", whole, agreeing))
    text, finished = await ensemble.answer(watched(ensemble))
    assert text == " one two three"
    assert finished.degraded
    assert ("a", "propose", "failed") in ensemble.observer.calls


async def test_a_failure_ahead_that_nobody_needs_is_told_as_a_failure() -> None:
    """a's draft is objected to when the next one, made ahead, has failed."""
    judged = asyncio.Event()

    def broken(context: Context) -> Proposal | SpecFuseError:
        if "".join(context.committed) != " one":
            return proposal(" one")
        judged.set()
        return Unavailable("reset")

    a = ScriptedMember("a", broken, agreeing)
    b = ScriptedMember("b", says(" eins"), of_another_mind, hold={"score": judged})
    ensemble = Ensemble(a, b)
    stream = ensemble.run(watched(ensemble))
    await anext(stream)
    await anext(stream)
    assert ("a", "propose", "failed") in ensemble.observer.calls
    assert ensemble.observer.ahead == {False: 1}
    await stream.aclose()


async def test_nothing_is_drafted_ahead_of_what_is_known_to_be_objected_to() -> None:
    """b objects to the second word and does not tell of all others, so it is asked again."""

    def judge(context: Context, candidate: Candidate) -> Score:
        if candidate.text != " one two":
            return agreeing(context, candidate)
        return score(0.1)._replace(evidence=Evidence(9.0, 4.0, 4, 0.1, -4.0, 4))

    a = ScriptedMember("a", lambda _: proposal(" one two"), agreeing)
    b = ScriptedMember("b", says(" one zwei"), judge)
    ensemble = Ensemble(a, b)
    stream = ensemble.run(watched(ensemble))
    await anext(stream)
    event = await anext(stream)
    assert isinstance(event, RoundCommitted)
    assert event.round.text == " one"
    assert len([asked for asked in b.asked if asked.rpc == "score"]) == 2, "it is asked again"
    assert ensemble.observer.ahead == {False: 1}
    await stream.aclose()


class Reluctant(asyncio.Event):
    """Ends its wait only when it may, even if that is cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.ending, self.may_end = asyncio.Event(), asyncio.Event()

    async def wait(self) -> Literal[True]:
        try:
            return await super().wait()
        finally:
            self.ending.set()
            await self.may_end.wait()


async def test_who_is_cancelled_twice_leaves_no_draft_that_is_made_ahead() -> None:
    held = Reluctant()
    a = busy_after_the_first_draft(held)
    b = ScriptedMember("b", says(" eins"), agreeing, hold={"score": asyncio.Event()})
    ensemble, effort = Ensemble(a, b), Effort()
    stream = ensemble.fusion.run(watched(ensemble), Deadline.after(30), effort)
    await anext(stream)
    first = asyncio.create_task(anext(stream))
    await a.waiting.get()
    first.cancel()
    await held.ending.wait()
    first.cancel()
    asyncio.get_running_loop().call_soon(held.may_end.set)
    with pytest.raises(asyncio.CancelledError):
        await first
    assert [(member.running, member.left) for member in (a, b)] == [(0, 1), (0, 1)]
    assert effort.made["propose"] == 2
    assert ensemble.observer.ahead == {False: 1}


class UntilPassed(RecordingObserver):
    """Is told of the second round until the deadline passes."""

    def __init__(self, deadline: Deadline) -> None:
        super().__init__()
        self.deadline = deadline

    def active_members(self, ensemble: str, members: int) -> None:
        super().active_members(ensemble, members)
        while len(self.active) == 2 and not self.deadline.passed:
            pass


async def test_a_draft_made_ahead_ends_with_a_deadline_that_passes_as_its_turn_comes() -> None:
    a = busy_after_the_first_draft()
    b = ScriptedMember("b", says(" eins"), agreeing)
    deadline, effort = Deadline.after(0.2), Effort()
    ensemble = Ensemble(a, b)
    ensemble.observer = UntilPassed(deadline)
    fusion = Fusion(ensemble.members, ensemble.observer)
    with pytest.raises(DeadlineExceeded):
        async for _ in fusion.run(watched(ensemble), deadline, effort):
            pass
    assert [(member.running, member.left) for member in (a, b)] == [(0, 1), (0, 1)]
    assert ensemble.observer.ahead == {False: 1}
    assert effort.made["propose"] == 2
    assert [call for call in ensemble.observer.calls if call[1] == "propose"] == [
        ("a", "propose", "ok"), ("a", "propose", "cancelled"),
    ]  # fmt: skip


async def test_an_opener_that_answers_as_it_is_relieved_is_judged_by_those_that_were_asked() -> (
    None
):
    """They had no time to draft, which is neither waited for nor held against them."""
    whole, held = says(" one", " two"), asyncio.Event()
    a = ScriptedMember("a", whole, agreeing, hold={"propose": held})
    b = ScriptedMember("b", whole, agreeing, hold={"propose": asyncio.Event()})
    ensemble = Ensemble(a, b)
    timings = Timings(straggler_grace_seconds=0.02, round_timeout_seconds=1000)
    query = ensemble.query(
        timings=timings, vote=Vote.WORDS, exit=WATCH, opener="a", quorum=2, max_misses=1
    )
    answer = asyncio.create_task(ensemble.answer(query))
    await b.waiting.get()
    held.set()
    async with asyncio.timeout(10):
        text, finished = await answer
    assert text == " one two"
    assert not finished.degraded
    assert ("b", "propose", "cancelled") in ensemble.observer.calls
    assert [asked.rpc for asked in b.asked][:2] == ["propose", "score"]


async def test_where_nobody_watches_nothing_is_drafted_ahead() -> None:
    a = ScriptedMember("a", says(" one", " two"), agreeing)
    b = ScriptedMember("b", says(" eins", " two"), agreeing)
    ensemble = Ensemble(a, b)
    query = replace(ensemble.query(vote=Vote.WORDS), draft_ahead=True)
    await ensemble.answer(query)
    assert not ensemble.observer.ahead
    assert len(drafts(a)) == len(set(drafts(a)))


# Going away


@pytest.mark.parametrize("rpc", ["propose", "score"])
async def test_a_consumer_that_goes_away_cancels_the_calls_at_once(rpc: str) -> None:
    members = [
        ScriptedMember(name, says(f" {name}"), hold={rpc: asyncio.Event()})  # type: ignore[dict-item]
        for name in "ab"
    ]
    ensemble = Ensemble(*members)

    async def consume() -> None:
        async for _ in ensemble.run(ensemble.query()):
            pass

    consumer = asyncio.create_task(consume())
    for member in members:
        assert await member.waiting.get() == rpc
    consumer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await consumer
    assert [(member.cancelled, member.running) for member in members] == [(1, 0), (1, 0)]
    assert sorted(call for call in ensemble.observer.calls if call[2] == "cancelled") == [
        ("a", rpc, "cancelled"),
        ("b", rpc, "cancelled"),
    ]


async def test_closing_the_stream_between_events_leaves_nothing_running() -> None:
    member = ScriptedMember("a", says(" one", " two", " three"))
    ensemble = Ensemble(member)
    stream = ensemble.run(ensemble.query())
    assert isinstance(await anext(stream), Started)
    assert isinstance(await anext(stream), RoundCommitted)
    assert not member.left
    await stream.aclose()
    assert (len(member.asked), member.running, member.left) == (1, 0, 1)


async def test_members_leave_a_query_that_ends_however_it_does() -> None:
    fine, lost = (
        ScriptedMember("a", says(" one")),
        ScriptedMember("b", failing(Unavailable("gone"))),
    )
    await Ensemble(fine, lost).answer(Ensemble(fine, lost).query())
    with pytest.raises(QuorumLost):
        await Ensemble(lost).answer(Ensemble(lost).query())
    assert (fine.left, lost.left) == (1, 2)


async def test_queries_do_not_disturb_each_other() -> None:
    held = asyncio.Event()
    member = ScriptedMember("a", lambda context: proposal(f" {context.session_id}", END))
    ensemble = Ensemble(member)
    member.hold["propose"] = held
    queries = [replace(ensemble.query(), session_id=f"s{number}") for number in range(5)]
    answers = [asyncio.create_task(ensemble.answer(query)) for query in queries]
    for _ in queries:
        await member.waiting.get()
    answers[2].cancel()
    held.set()
    texts = [
        answer[0] if isinstance(answer, tuple) else None
        for answer in await asyncio.gather(*answers, return_exceptions=True)
    ]
    assert texts == [" s0", " s1", None, " s3", " s4"]
