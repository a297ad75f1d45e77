"""Between the contract's messages and the fuser's own types. Pure.

A message that has no meaning in those types (no prompt, an enum value of the future) is refused
here; whether what it means is allowed is decided in `fuser_service.validation`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from fuser_service.core.rules import ExitKind, Statistic, Weighting
from fuser_service.core.types import (
    Departure,
    DepartureReason,
    FinishReason,
    JudgedCandidate,
    Message,
    Prompt,
    Role,
)
from fuser_service.fusion.events import Event, Finished, RoundCommitted, Started
from fuser_service.service import EnsembleStatus
from fuser_service.validation import Draws, GenerateRequest, Overrides
from specfuse.errors import InvalidArgument
from specfuse.v1 import fuser_service_pb2 as pb
from specfuse.v1 import prompt_pb2

Value = TypeVar("Value")

_ROLES: dict[int, Role] = {
    prompt_pb2.ROLE_SYSTEM: Role.SYSTEM,
    prompt_pb2.ROLE_USER: Role.USER,
    prompt_pb2.ROLE_ASSISTANT: Role.ASSISTANT,
}
_STATISTICS: dict[int, Statistic | None] = {
    pb.STATISTIC_UNSPECIFIED: None,
    pb.STATISTIC_GEOMETRIC: Statistic.GEOMETRIC,
    pb.STATISTIC_MEAN_PROBABILITY: Statistic.MEAN_PROBABILITY,
    pb.STATISTIC_PER_BYTE: Statistic.PER_BYTE,
}
_WEIGHTINGS: dict[int, Weighting | None] = {
    pb.WEIGHTING_UNSPECIFIED: None,
    pb.WEIGHTING_UNIFORM: Weighting.UNIFORM,
    pb.WEIGHTING_HEDGE: Weighting.HEDGE,
}
_EXIT_POLICIES: dict[int, ExitKind | None] = {
    pb.EXIT_POLICY_UNSPECIFIED: None,
    pb.EXIT_POLICY_NONE: ExitKind.NONE,
    pb.EXIT_POLICY_ENTROPY_SOFTMAX: ExitKind.ENTROPY_SOFTMAX,
    pb.EXIT_POLICY_WATCH: ExitKind.WATCH,
}
_DEPARTURES = {
    DepartureReason.EXIT: pb.DEPARTURE_REASON_EXIT,
    DepartureReason.FAILED: pb.DEPARTURE_REASON_FAILED,
    DepartureReason.REJECTED: pb.DEPARTURE_REASON_FAILED,  # its detail says what was wrong
    DepartureReason.STRAGGLER: pb.DEPARTURE_REASON_STRAGGLER,
}
_FINISHES = {
    FinishReason.STOP: pb.FINISH_REASON_STOP,
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
}


def generate_request(request: pb.GenerateRequest, *, request_id: str) -> GenerateRequest:
    """The request that a message makes.

    Raises:
        InvalidArgument: it has no prompt, or an enum value that is not known here.
    """
    return GenerateRequest(
        prompt=_prompt(request),
        ensemble=request.ensemble,
        max_tokens=request.max_tokens if request.HasField("max_tokens") else None,
        stop=tuple(request.stop),
        sampling=_draws(request.sampling) if request.HasField("sampling") else Draws(),
        seed=request.seed,
        overrides=_overrides(request.overrides),
        committed_segments=tuple(request.committed_segments),
        committed_tokens=request.committed_tokens,
        session_id=request.session_id,
        request_id=request_id,
    )


def response(event: Event) -> pb.GenerateResponse:
    """The message that an event makes."""
    if isinstance(event, Started):
        return pb.GenerateResponse(started=_started(event))
    if isinstance(event, RoundCommitted):
        return pb.GenerateResponse(segment_committed=_segment_committed(event))
    return pb.GenerateResponse(finished=_finished(event))


def ensembles(statuses: Iterable[EnsembleStatus]) -> pb.ListEnsemblesResponse:
    """The message that lists ensembles."""
    return pb.ListEnsemblesResponse(
        ensembles=[
            pb.Ensemble(
                name=status.name,
                members=status.members,
                ready_members=status.ready_members,
                quorum=status.quorum,
                max_tokens_limit=status.max_tokens_limit,
            )
            for status in statuses
        ]
    )


def _prompt(request: pb.GenerateRequest) -> Prompt:
    match request.WhichOneof("prompt"):
        case "raw_prompt":
            return request.raw_prompt
        case "conversation":
            messages = enumerate(request.conversation.messages)
            return tuple(_message(position, message) for position, message in messages)
        case _:
            raise InvalidArgument("prompt", "is absent; give a conversation or a raw_prompt")


def _message(position: int, message: prompt_pb2.Message) -> Message:
    role = _meaning(_ROLES, message.role, f"conversation.messages[{position}].role")
    return Message(role, message.content)


def _draws(sampling: prompt_pb2.Sampling) -> Draws:
    top_p = sampling.top_p if sampling.HasField("top_p") else 1.0
    return Draws(temperature=sampling.temperature, top_p=top_p, top_k=sampling.top_k)


def _overrides(overrides: pb.Overrides) -> Overrides:
    given = overrides.HasField
    return Overrides(
        segment_tokens=overrides.segment_tokens if given("segment_tokens") else None,
        statistic=_meaning(_STATISTICS, overrides.statistic, "overrides.statistic"),
        weighting=_meaning(_WEIGHTINGS, overrides.weighting, "overrides.weighting"),
        exit_policy=_meaning(_EXIT_POLICIES, overrides.exit_policy, "overrides.exit_policy"),
        recall=overrides.recall if given("recall") else None,
        self_judgement=overrides.self_judgement if given("self_judgement") else None,
        fast_finish=overrides.fast_finish if given("fast_finish") else None,
    )


def _meaning(meanings: Mapping[int, Value], number: int, field: str) -> Value:
    """What an enum's number stands for."""
    if number not in meanings:
        known = ", ".join(str(one) for one in meanings)
        raise InvalidArgument(field, f"is {number}; must be one of {known}", value=str(number))
    return meanings[number]


def _started(event: Started) -> pb.Started:
    return pb.Started(ensemble=event.ensemble, members=event.members, session_id=event.session_id)


def _segment_committed(event: RoundCommitted) -> pb.SegmentCommitted:
    committed = event.round
    return pb.SegmentCommitted(
        round=committed.number,
        segment=committed.segment,
        text=committed.text,
        winner=committed.winner,
        token_count=committed.token_count,
        candidates=[_candidate(one) for one in committed.candidates],
        active=committed.took_part,
        left=_departures(committed.left),
        recalled=committed.recalled,
        watched=committed.watched,
        objected=committed.objected,
        timings=pb.RoundTimings(
            propose_seconds=event.propose_seconds,
            score_seconds=event.score_seconds,
            total_seconds=event.total_seconds,
        ),
    )


def _candidate(judged: JudgedCandidate) -> pb.RoundCandidate:
    return pb.RoundCandidate(
        text=judged.candidate.text,
        finished=judged.candidate.finished,
        proposers=judged.proposers,
        share=judged.share,
        judgements=[
            pb.Judgement(verifier=verifier, share=share) for verifier, share in judged.judgements
        ],
    )


def _departures(departures: Iterable[Departure]) -> list[pb.Departure]:
    return [
        pb.Departure(member=one.member, reason=_DEPARTURES[one.reason], detail=one.detail)
        for one in departures
    ]


def _finished(event: Finished) -> pb.Finished:
    return pb.Finished(
        reason=_FINISHES[event.reason],
        text=event.text,
        rounds=event.rounds,
        output_tokens=event.output_tokens,
        propose_calls=pb.CallCounts(made=event.propose_made, avoided=event.propose_avoided),
        score_calls=pb.CallCounts(made=event.score_made, avoided=event.score_avoided),
        lost=_departures(event.lost),
        absent=event.absent,
        degraded=event.degraded,
        total_seconds=event.total_seconds,
        discarded_tokens=event.discarded_tokens,
        passes=event.passes,
    )
