"""Several streams as one answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specfuse.client import (
    Answer,
    CallCounts,
    Departure,
    DepartureReason,
    Event,
    Finished,
    FinishReason,
    ResumePoint,
    Segment,
    Started,
)
from specfuse.client.transcript import Transcript
from specfuse.errors import Internal, NotFound, QuorumLost
from specfuse.v1 import fuser_service_pb2 as pb
from tests.support.fuser_door import finished, segment, started

BEGIN = started("ada", "bob")
START = ResumePoint()


def taken(transcript: Transcript, responses: Iterable[pb.GenerateResponse]) -> list[Event]:
    """The events of a stream."""
    events = (transcript.event(response) for response in responses)
    return [event for event in events if event is not None]


def lost(member: str, detail: str = "") -> pb.Departure:
    return pb.Departure(member=member, reason=pb.DEPARTURE_REASON_FAILED, detail=detail)


def ending(text: str) -> list[pb.RoundCandidate]:
    """Candidates of which the winner's ends the answer."""
    return [
        pb.RoundCandidate(text="x", proposers=["bob"]),
        pb.RoundCandidate(text=text, proposers=["ada"], finished=True),
    ]


@given(st.lists(st.text(max_size=3), min_size=1, max_size=8), st.data())
def test_however_it_is_interrupted_the_answer_is_the_same(
    texts: list[str], data: st.DataObject
) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(texts)), max_size=4).map(sorted))
    transcript = Transcript(START)
    events: list[Event] = []
    for first, end in pairwise((0, *cuts, len(texts))):
        transcript.next_stream()
        assert transcript.point.committed_segments == tuple(texts[:first])
        rounds = [segment(n, text) for n, text in enumerate(texts[first:end], 1)]
        events += taken(transcript, [BEGIN, *rounds])
        assert transcript.advanced is (end > first)
    left = len(texts) - (cuts[-1] if cuts else 0)
    events += taken(transcript, [finished("!", rounds=left, output_tokens=2 * left)])
    answer = Answer.of(events)
    assert answer.text == "".join(texts) + "!"
    assert [one.round for one in answer.segments] == list(range(1, len(texts) + 1))
    assert (answer.finished.rounds, answer.output_tokens) == (len(texts), 2 * len(texts))
    assert answer.resumed == len(cuts)
    assert transcript.complete


def clock(*seconds: float) -> Iterator[float]:
    yield from seconds


def test_the_end_of_a_resumed_answer_has_the_sums() -> None:
    seconds = clock(100, 107)
    transcript = Transcript(START, lambda: next(seconds))
    exits = pb.Departure(member="bob", reason=pb.DEPARTURE_REASON_EXIT)
    taken(transcript, [BEGIN, segment(1, "a", active=["ada", "bob"], left=[lost("cy"), exits])])
    transcript.next_stream()
    done = finished(
        "c",
        reason=pb.FINISH_REASON_LENGTH,
        rounds=1,
        output_tokens=2,
        propose_calls=pb.CallCounts(made=3, avoided=1),
        score_calls=pb.CallCounts(made=4, avoided=2),
        lost=[lost("dee"), lost("cy", "again")],
        degraded=True,
        total_seconds=1,
        discarded_tokens=5,
    )
    events = taken(transcript, [BEGIN, segment(1, "b", active=["ada"]), done])
    assert events[-1] == Finished(
        reason=FinishReason.LENGTH,
        text="c",
        rounds=2,
        output_tokens=4,
        propose_calls=CallCounts(5, 1),
        score_calls=CallCounts(4, 2),
        lost=(
            Departure("cy", DepartureReason.FAILED, "again"),
            Departure("dee", DepartureReason.FAILED),
        ),
        degraded=True,
        total_seconds=7,
        discarded_tokens=5,
        resumed=1,
    )


def test_a_member_lost_before_the_interruption_degrades_the_answer() -> None:
    transcript = Transcript(START)
    taken(transcript, [BEGIN, segment(1, "a", left=[lost("cy")])])
    transcript.next_stream()
    (end,) = taken(transcript, [BEGIN, finished()])
    assert isinstance(end, Finished)
    assert end.degraded


def test_the_end_of_an_answer_in_one_stream_is_as_the_fuser_says() -> None:
    transcript = Transcript(ResumePoint(("One",), 2, "One"))
    done = finished(rounds=1, output_tokens=2, total_seconds=3)
    end = taken(transcript, [BEGIN, segment(1, " two"), done])[-1]
    assert isinstance(end, Finished)
    assert (end.rounds, end.output_tokens, end.total_seconds, end.resumed) == (1, 2, 3, 0)


def test_a_stream_that_never_began_is_no_resumption() -> None:
    transcript = Transcript(START)
    transcript.next_stream()
    begun, end = taken(transcript, [BEGIN, finished()])
    assert isinstance(begun, Started)
    assert isinstance(end, Finished)
    assert end.resumed == 0


@pytest.mark.parametrize(
    "responses",
    [
        [segment(1, "a")],
        [finished()],
        [BEGIN, BEGIN],
        [BEGIN, finished(), segment(1, "a")],
        [BEGIN, finished(), finished()],
        [BEGIN, finished(), BEGIN],
        [BEGIN, finished(reason=9)],
    ],
)
def test_events_out_of_place_are_refused(responses: list[pb.GenerateResponse]) -> None:
    with pytest.raises(Internal):
        taken(Transcript(START), responses)


def test_a_kind_of_event_that_is_not_known_may_be_anywhere() -> None:
    newer = pb.GenerateResponse()
    assert len(taken(Transcript(START), [newer, BEGIN, newer, finished(), newer])) == 2


# --- an answer that lacks nothing but the word that it is complete --------------------------------


@pytest.mark.parametrize(
    ("shown", "stop", "text"),
    [
        (" two.", (), ""),
        (" two", (".!",), "."),
        ("", (" two.x", "z"), " two."),
        (" t", ("wo.",), ""),
    ],
)
def test_its_end_is_known_with_what_was_held_back(
    shown: str, stop: tuple[str, ...], text: str
) -> None:
    transcript = Transcript(ResumePoint(("Z",), 1, "Z"))
    last = segment(2, " two.", shown, candidates=ending(" two."), active=["ada", "bob"])
    taken(transcript, [BEGIN, segment(1, "One"), last])
    end = transcript.end_at_last_segment(stop)
    assert end is not None
    assert (end.reason, end.text, end.rounds, end.output_tokens) == (FinishReason.STOP, text, 2, 4)
    assert end.propose_calls == CallCounts(2, 0)
    assert transcript.complete


@pytest.mark.parametrize(
    "responses",
    [
        [],
        [BEGIN],
        [BEGIN, segment(1, "a")],
        [BEGIN, segment(1, "x", winner="bob", candidates=ending("a"))],
        [BEGIN, segment(1, "a", candidates=ending("a")), segment(2, "b")],
    ],
)
def test_otherwise_it_is_not(responses: list[pb.GenerateResponse]) -> None:
    transcript = Transcript(START)
    taken(transcript, responses)
    assert transcript.end_at_last_segment(()) is None
    assert not transcript.complete


# --- where it stands ------------------------------------------------------------------------------


def test_an_error_says_where_the_answer_stands_over_all_streams() -> None:
    transcript = Transcript(ResumePoint(("One",), 2, "One"))
    taken(transcript, [BEGIN, segment(1, " tw", " t")])
    transcript.next_stream()
    taken(transcript, [BEGIN, segment(1, "o", "wo")])
    error = transcript.interrupted_by(QuorumLost("gone"))
    assert error.resume == ResumePoint(("One", " tw", "o"), 6, "One two")
    assert isinstance(error, QuorumLost)
    assert error.committed_segments == ("One", " tw", "o")
    assert error.committed_tokens == 6


def test_each_stream_that_began_is_named_and_the_last_one() -> None:
    transcript = Transcript(START)
    transcript.called("began")
    (begun,) = taken(transcript, [BEGIN])
    assert isinstance(begun, Started)
    assert begun.request_id == "began"
    transcript.next_stream()
    assert transcript.interrupted_by(NotFound("nobody")).request_ids == ("began",)
    transcript.next_stream()
    transcript.called("refused")
    assert transcript.interrupted_by(NotFound("full")).request_ids == ("began", "refused")
    transcript.next_stream()
    transcript.called("ended")
    (end,) = taken(transcript, [BEGIN, finished()])
    assert isinstance(end, Finished)
    assert end.request_ids == ("began", "ended")


def test_an_end_that_never_came_names_the_streams_too() -> None:
    transcript = Transcript(START)
    transcript.called("broken off")
    taken(transcript, [BEGIN, segment(1, "x", candidates=ending("x"))])
    end = transcript.end_at_last_segment(())
    assert end is not None
    assert end.request_ids == ("broken off",)


def test_an_error_of_an_answer_of_which_nothing_stands_has_nothing_to_say() -> None:
    transcript = Transcript(START)
    (begun,) = taken(transcript, [BEGIN])
    assert not isinstance(begun, Segment)
    assert transcript.interrupted_by(NotFound("none")).resume is None


def test_a_member_that_missed_a_round_before_the_interruption_is_named() -> None:
    transcript = Transcript(START)
    exits = pb.Departure(member="ada", reason=pb.DEPARTURE_REASON_EXIT)
    rounds = [
        segment(1, "a", active=["ada", "bob"], left=[exits]),
        segment(2, "b", active=[]),
        segment(3, "c", active=["ada", "bob"], recalled=["ada"]),
    ]
    taken(transcript, [started("ada", "bob"), *rounds])
    transcript.next_stream()
    (end,) = taken(transcript, [started("ada", "bob"), finished()])
    assert isinstance(end, Finished)
    assert end.absent == ("bob",)
    assert end.degraded


def test_who_watched_before_the_interruption_did_not_miss_a_round() -> None:
    transcript = Transcript(START)
    rounds = [
        segment(1, "a", active=["ada", "bob"]),
        segment(2, "b", active=["ada"], watched=["bob"]),
    ]
    taken(transcript, [started("ada", "bob"), *rounds])
    transcript.next_stream()
    (end,) = taken(transcript, [started("ada", "bob"), finished()])
    assert isinstance(end, Finished)
    assert (end.absent, end.degraded) == ((), False)


def test_of_the_last_stream_the_end_says_who_missed_rounds() -> None:
    transcript = Transcript(START)
    taken(transcript, [started("ada", "bob")])
    transcript.next_stream()
    ends = finished(absent=["ada"], degraded=True)
    *_, end = taken(transcript, [started("ada", "bob"), segment(1, "a", active=["ada"]), ends])
    assert isinstance(end, Finished)
    assert end.absent == ("ada",)
