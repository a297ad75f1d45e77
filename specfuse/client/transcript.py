"""What an answer's streams have given so far: an interrupted answer is not a lost one. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from specfuse.client.results import (
    CallCounts,
    Departure,
    DepartureReason,
    Event,
    Finished,
    FinishReason,
    Segment,
    Started,
)
from specfuse.client.wire import event_of
from specfuse.errors import Internal, QuorumLost, ResumePoint, SpecFuseError
from specfuse.v1 import fuser_service_pb2 as pb


class Transcript:
    """Follows the streams of one answer and knows, at any point, where it stands.

    Every stream but the first goes on where the one before was interrupted. What they give comes to
    one answer: it begins once, its rounds are numbered through, and its end has the sums.
    """

    def __init__(self, resumed: ResumePoint, clock: Callable[[], float] = time.monotonic) -> None:
        """Begins where the answer does: at the start, or at the point it resumes from."""
        self._resumed = resumed
        self._clock = clock
        self._began = clock()
        self._started: Started | None = None
        self._segments: list[Segment] = []
        self._earlier = 0
        self._resumptions = 0
        self._request_id = ""
        self._earlier_ids: tuple[str, ...] = ()
        self._expected: set[str] = set()
        self._absent_now: dict[str, None] = {}
        self._absent_earlier: dict[str, None] = {}
        self._admitted = False
        self._complete = False

    @property
    def started(self) -> Started | None:
        """How the answer began; None until it has."""
        return self._started

    @property
    def admitted(self) -> bool:
        """Whether the current stream has begun."""
        return self._admitted

    @property
    def advanced(self) -> bool:
        """Whether the current stream has brought a segment."""
        return len(self._segments) > self._earlier

    @property
    def complete(self) -> bool:
        """Whether all of the answer is here."""
        return self._complete

    @property
    def request_ids(self) -> tuple[str, ...]:
        """What fusers call the streams that began, and the current one, as far as they said so."""
        return (*self._earlier_ids, self._request_id) if self._request_id else self._earlier_ids

    @property
    def point(self) -> ResumePoint:
        """Where the answer stands."""
        segments, resumed = self._segments, self._resumed
        return ResumePoint(
            (*resumed.committed_segments, *(one.segment for one in segments)),
            resumed.committed_tokens + sum(one.token_count for one in segments),
            resumed.text + "".join(one.text for one in segments),
        )

    def next_stream(self) -> None:
        """From here on another stream is followed."""
        if self._admitted:
            self._earlier_ids = self.request_ids
        self._request_id = ""
        self._absent_earlier |= self._absent_now
        self._absent_now = {}
        self._earlier = len(self._segments)
        self._admitted = False

    def called(self, request_id: str) -> None:
        """The fuser calls the current stream so."""
        self._request_id = request_id

    def event(self, response: pb.GenerateResponse) -> Event | None:
        """Takes the next response down; returns its event as one of the whole answer.

        None if it is of a kind not known here, or if it says again how the answer begins.

        Raises:
            Internal: the response makes no sense, or not here.
        """
        event = event_of(response)
        if event is not None and (self._complete or isinstance(event, Started) is self._admitted):
            raise Internal(f"the stream has a {type(event).__name__} where none may be")
        match event:
            case Started():
                return self._begins(event)
            case Segment():
                self._note_absences(event)
                self._segments.append(replace(event, round=self._earlier + event.round))
                return self._segments[-1]
            case Finished():
                self._complete = True
                event = replace(event, request_ids=self.request_ids)
                return self._of_all_streams(event) if self._resumptions else event
        return None

    def end_at_last_segment(self, stop: Iterable[str]) -> Finished | None:
        """The end, if all that is missing of the answer is the word that it is complete.

        That is so if the last segment's winner held it to be the end. To ask for more then would
        have the models go on behind their own end.

        Args:
            stop: The strings that end the answer, as the caller gave them.
        """
        if not (self._segments and _ends_the_answer(self._segments[-1])):
            return None
        self._complete = True
        self._earlier = len(self._segments)
        end = Finished(
            reason=FinishReason.STOP,
            text=self._held(stop),
            rounds=0,
            output_tokens=0,
            propose_calls=CallCounts(0, 0),
            score_calls=CallCounts(0, 0),
            lost=(),
            absent=tuple(self._absent_now),
            degraded=False,
            total_seconds=0.0,
            request_ids=self.request_ids,
        )
        return self._of_all_streams(end)

    def interrupted_by(self, error: SpecFuseError) -> SpecFuseError:
        """The error, with where the answer stands: all that came before it was received."""
        error.request_ids = self.request_ids
        point = self.point
        if point.committed_segments:
            error.resume = point
        if isinstance(error, QuorumLost):
            error.committed_segments = point.committed_segments
            error.committed_tokens = point.committed_tokens
        return error

    def _begins(self, started: Started) -> Started | None:
        self._admitted = True
        self._expected = set(started.members)
        if self._started is None:
            self._started = replace(started, request_id=self._request_id)
            return self._started
        self._resumptions += 1
        return None

    def _note_absences(self, segment: Segment) -> None:
        """Who should have been in the round and was not: only a stream's end says so itself."""
        self._expected.update(segment.recalled)
        left = {departure.member for departure in segment.left}
        absent = self._expected - {*segment.active, *segment.watched} - left
        self._absent_now |= dict.fromkeys(sorted(absent))
        self._expected -= left

    def _of_all_streams(self, finished: Finished) -> Finished:
        """The end of the last stream as the end of the answer.

        An interrupted stream does not say what it cost. Of its calls only the proposals that came
        are known, those taken for proposals that were left of earlier drafts; what it avoided and
        discarded is not.
        """
        earlier = self._segments[: self._earlier]
        lost = _lost(earlier, finished)
        missed = {**self._absent_earlier, **dict.fromkeys(finished.absent)}
        names = {one.member for one in lost}
        absent = tuple(one for one in missed if one not in names)
        asked = sum(len(one.active) for one in earlier)
        calls = finished.propose_calls
        return replace(
            finished,
            rounds=len(earlier) + finished.rounds,
            output_tokens=sum(one.token_count for one in earlier) + finished.output_tokens,
            propose_calls=replace(calls, made=asked + calls.made),
            lost=lost,
            absent=absent,
            degraded=bool(lost or absent) or finished.degraded,
            total_seconds=self._clock() - self._began,
            resumed=self._resumptions,
        )

    def _held(self, stop: Iterable[str]) -> str:
        """What was held back of the answer and, as it ends here, is no stop string."""
        point = self.point
        whole = "".join(point.committed_segments)
        if any(one in whole for one in stop):
            return ""
        return whole.removeprefix(point.text) if whole.startswith(point.text) else ""


def _ends_the_answer(segment: Segment) -> bool:
    return any(one.finished for one in segment.candidates if segment.winner in one.proposers)


def _lost(earlier: Iterable[Segment], finished: Finished) -> tuple[Departure, ...]:
    """The members lost in any stream, each once."""
    left = [departure for segment in earlier for departure in segment.left]
    lost = [one for one in left if one.reason is not DepartureReason.EXIT]
    return tuple({one.member: one for one in (*lost, *finished.lost)}.values())
