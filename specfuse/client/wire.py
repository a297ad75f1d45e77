"""The service's messages as a caller's results. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, TypeVar

from specfuse.client.results import (
    CallCounts,
    Departure,
    DepartureReason,
    Ensemble,
    Event,
    Finished,
    FinishReason,
    Judgement,
    RoundCandidate,
    RoundTimings,
    Segment,
    Started,
)
from specfuse.errors import Internal
from specfuse.v1 import fuser_service_pb2 as pb

_FINISH_REASONS: Final = {
    pb.FINISH_REASON_STOP: FinishReason.STOP,
    pb.FINISH_REASON_LENGTH: FinishReason.LENGTH,
}
_DEPARTURE_REASONS: Final = {
    pb.DEPARTURE_REASON_EXIT: DepartureReason.EXIT,
    pb.DEPARTURE_REASON_FAILED: DepartureReason.FAILED,
    pb.DEPARTURE_REASON_STRAGGLER: DepartureReason.STRAGGLER,
}
_N = TypeVar("_N")
_R = TypeVar("_R")


def event_of(response: pb.GenerateResponse) -> Event | None:
    """The event; None for a kind that only a newer service knows."""
    match response.WhichOneof("event"):
        case "started":
            return _started(response.started)
        case "segment_committed":
            return _segment(response.segment_committed)
        case "finished":
            return _finished(response.finished)
    return None


def ensembles_of(response: pb.ListEnsemblesResponse) -> tuple[Ensemble, ...]:
    """The ensembles, in the service's order: by name."""
    return tuple(
        Ensemble(
            name=ensemble.name,
            members=tuple(ensemble.members),
            ready_members=tuple(ensemble.ready_members),
            quorum=ensemble.quorum,
            max_tokens_limit=ensemble.max_tokens_limit,
        )
        for ensemble in response.ensembles
    )


def _started(message: pb.Started) -> Started:
    return Started(message.ensemble, tuple(message.members), message.session_id)


def _segment(message: pb.SegmentCommitted) -> Segment:
    return Segment(
        round=message.round,
        segment=message.segment,
        text=message.text,
        winner=message.winner,
        token_count=message.token_count,
        candidates=tuple(_candidate(candidate) for candidate in message.candidates),
        active=tuple(message.active),
        left=_departures(message.left),
        recalled=tuple(message.recalled),
        timings=RoundTimings(
            message.timings.propose_seconds,
            message.timings.score_seconds,
            message.timings.total_seconds,
        ),
        watched=tuple(message.watched),
        objected=tuple(message.objected),
    )


def _candidate(message: pb.RoundCandidate) -> RoundCandidate:
    return RoundCandidate(
        text=message.text,
        finished=message.finished,
        proposers=tuple(message.proposers),
        share=message.share,
        judgements=tuple(Judgement(one.verifier, one.share) for one in message.judgements),
    )


def _finished(message: pb.Finished) -> Finished:
    return Finished(
        reason=_known(message.reason, _FINISH_REASONS, "finish reason"),
        text=message.text,
        rounds=message.rounds,
        output_tokens=message.output_tokens,
        propose_calls=CallCounts(message.propose_calls.made, message.propose_calls.avoided),
        score_calls=CallCounts(message.score_calls.made, message.score_calls.avoided),
        lost=_departures(message.lost),
        absent=tuple(message.absent),
        degraded=message.degraded,
        total_seconds=message.total_seconds,
        discarded_tokens=message.discarded_tokens,
        passes=message.passes,
    )


def _departures(messages: Iterable[pb.Departure]) -> tuple[Departure, ...]:
    return tuple(
        Departure(
            member=message.member,
            reason=_known(message.reason, _DEPARTURE_REASONS, "reason for a departure"),
            detail=message.detail,
        )
        for message in messages
    )


def _known(number: _N, meanings: Mapping[_N, _R], what: str) -> _R:
    if number not in meanings:
        raise Internal(f"the service gave a {what} ({number}) unknown here; upgrade specfuse")
    return meanings[number]
