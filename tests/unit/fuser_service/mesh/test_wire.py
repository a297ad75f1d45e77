"""What is said to model services, and what is believed of what they say."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuser_service.core.types import (
    Candidate,
    Context,
    Disagreement,
    Evidence,
    Message,
    Proposal,
    Role,
    Sampling,
    Score,
    SegmentFinish,
)
from fuser_service.mesh import wire
from specfuse.errors import ModelFailure
from specfuse.v1 import model_service_pb2 as pb
from specfuse.v1 import prompt_pb2

RAW = Context("Once", (" upon", " a"), "s")


def test_a_proposal_is_asked_for_with_everything_it_depends_on() -> None:
    request = wire.propose_request(
        RAW, max_tokens=7, sampling=Sampling(0.5, 0.9, 40, seed=2**64 - 1), stop=("\n", "END")
    )
    assert pb.ProposeSegmentRequest.FromString(request) == pb.ProposeSegmentRequest(
        context=pb.Context(raw_prompt="Once", committed_segments=[" upon", " a"], session_id="s"),
        max_tokens=7,
        sampling=prompt_pb2.Sampling(temperature=0.5, top_p=0.9, top_k=40),
        stop=["\n", "END"],
        seed=2**64 - 1,
    )


@given(prompt=st.text(max_size=400), timeout=st.none() | st.floats(min_value=0, allow_nan=False))
def test_a_call_of_a_stream_is_the_call_and_its_timeout(prompt: str, timeout: float | None) -> None:
    context = Context(prompt, (), "s")
    proposing = wire.propose_request(context, max_tokens=7, sampling=Sampling(), stop=())
    scoring = wire.score_request(context, [Candidate("x", finished=True)])
    assert pb.StreamCallsRequest.FromString(
        wire.streamed("propose", proposing, timeout)
    ) == pb.StreamCallsRequest(
        propose=pb.ProposeSegmentRequest.FromString(proposing), timeout_seconds=timeout
    )
    assert pb.StreamCallsRequest.FromString(
        wire.streamed("score", scoring, timeout)
    ) == pb.StreamCallsRequest(
        score=pb.ScoreSegmentsRequest.FromString(scoring), timeout_seconds=timeout
    )


def test_a_conversation_keeps_its_roles_and_order() -> None:
    turns = tuple(Message(role, role.value) for role in (Role.SYSTEM, Role.ASSISTANT, Role.USER))
    encoded = wire.score_request(Context(turns, (), ""), [Candidate("x", finished=True)])
    request = pb.ScoreSegmentsRequest.FromString(encoded)
    assert [(one.role, one.content) for one in request.context.conversation.messages] == [
        (prompt_pb2.ROLE_SYSTEM, "system"),
        (prompt_pb2.ROLE_ASSISTANT, "assistant"),
        (prompt_pb2.ROLE_USER, "user"),
    ]
    assert list(request.candidates) == [pb.Candidate(text="x", finished=True)]


@pytest.mark.parametrize(
    ("number", "finish"),
    [
        (pb.SEGMENT_FINISH_LENGTH, SegmentFinish.LENGTH),
        (pb.SEGMENT_FINISH_END, SegmentFinish.END),
        (pb.SEGMENT_FINISH_STOP, SegmentFinish.STOP),
    ],
)
def test_a_proposal_is_read(number: pb.SegmentFinish.ValueType, finish: SegmentFinish) -> None:
    segment = pb.Segment(text=" x", finish=number, token_count=2)
    read = wire.proposal(pb.ProposeSegmentResponse(segment=segment))
    assert read == Proposal(" x", finish, 2)


def test_a_score_is_read_and_so_is_a_proposers_own() -> None:
    score = pb.Score(logprob_sum=-1.5, probability_mean=0.25, token_count=2, byte_count=3)
    segment = pb.Segment(finish=pb.SEGMENT_FINISH_END, own_score=score)
    expected = Score(-1.5, 0.25, 2, 3)
    assert wire.proposal(pb.ProposeSegmentResponse(segment=segment)).own_score == expected
    assert wire.scores(pb.ScoreSegmentsResponse(scores=[score]), expected=1) == (expected,)


@pytest.mark.parametrize("number", [pb.SEGMENT_FINISH_UNSPECIFIED, 9])
def test_a_finish_that_the_contract_lacks_is_the_models_failure(
    number: pb.SegmentFinish.ValueType,
) -> None:
    response = pb.ProposeSegmentResponse(segment=pb.Segment(text="x", finish=number))
    with pytest.raises(ModelFailure, match=f"finish {number}"):
        wire.proposal(response)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_is_the_models_failure(number: float) -> None:
    for score in (pb.Score(logprob_sum=number), pb.Score(probability_mean=number)):
        with pytest.raises(ModelFailure, match="not a finite number"):
            wire.scores(pb.ScoreSegmentsResponse(scores=[score]), expected=1)
        segment = pb.Segment(finish=pb.SEGMENT_FINISH_END, own_score=score)
        with pytest.raises(ModelFailure, match="not a finite number"):
            wire.proposal(pb.ProposeSegmentResponse(segment=segment))


@pytest.mark.parametrize("given", [0, 1, 3])
def test_as_many_scores_as_candidates_are_expected(given: int) -> None:
    response = pb.ScoreSegmentsResponse(scores=[pb.Score()] * given)
    with pytest.raises(ModelFailure, match=f"{given} scores for 2 candidates"):
        wire.scores(response, expected=2)


def evident(**fields: Any) -> pb.Score:
    told = {"regret_sum": 2.0, "regret_max": 1.5, "regret_offset": 1, "weakest_logprob": -3.0}
    evidence = pb.Evidence(**{**told, "weakest_offset": 2, **fields})
    return pb.Score(
        logprob_sum=-1.5, probability_mean=0.25, token_count=2, byte_count=3, evidence=evidence
    )


@pytest.mark.parametrize("entropy", [None, 0.0, 0.7])
def test_evidence_is_read_with_or_without_an_entropy(entropy: float | None) -> None:
    response = pb.ScoreSegmentsResponse(scores=[evident(entropy=entropy)])
    (read,) = wire.scores(response, expected=1)
    assert read.evidence == Evidence(2.0, 1.5, 1, entropy, -3.0, 2)


def test_evidence_may_name_further_places() -> None:
    further = [pb.Disagreement(offset=0, regret=1.25, best_logprob=-0.5)]
    response = pb.ScoreSegmentsResponse(scores=[evident(further=further, untold=0.25)])
    (read,) = wire.scores(response, expected=1)
    places = (Disagreement(0, 1.25, -0.5),)
    assert read.evidence == Evidence(2.0, 1.5, 1, None, -3.0, 2, places, 0.25)


@pytest.mark.parametrize("field", ["regret", "best_logprob"])
def test_a_further_place_without_a_number_is_the_models_failure(field: str) -> None:
    further = [pb.Disagreement(), pb.Disagreement(**{field: math.nan})]
    response = pb.ScoreSegmentsResponse(scores=[evident(further=further)])
    with pytest.raises(ModelFailure, match="not a finite number"):
        wire.scores(response, expected=1)


@pytest.mark.parametrize(
    "field", ["untold", "regret_sum", "regret_max", "entropy", "weakest_logprob"]
)
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_evidence_that_is_no_number_is_the_models_failure(field: str, number: float) -> None:
    response = pb.ScoreSegmentsResponse(scores=[evident(**{field: number})])
    with pytest.raises(ModelFailure, match="not a finite number"):
        wire.scores(response, expected=1)
