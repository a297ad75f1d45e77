"""Between the fuser's own types and the model service's messages. Pure.

Requests are made in their encoded form, as most of each is the context, which all members are told
alike: it is encoded once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import starmap
from typing import Final

from fuser_service.core.types import (
    Candidate,
    Context,
    Disagreement,
    Evidence,
    Proposal,
    Role,
    Sampling,
    Score,
    SegmentFinish,
)
from specfuse.errors import ModelFailure
from specfuse.v1 import model_service_pb2 as pb
from specfuse.v1 import prompt_pb2

_ROLES = {
    Role.SYSTEM: prompt_pb2.ROLE_SYSTEM,
    Role.USER: prompt_pb2.ROLE_USER,
    Role.ASSISTANT: prompt_pb2.ROLE_ASSISTANT,
}
_FINISHES = {
    pb.SEGMENT_FINISH_LENGTH: SegmentFinish.LENGTH,
    pb.SEGMENT_FINISH_END: SegmentFinish.END,
    pb.SEGMENT_FINISH_STOP: SegmentFinish.STOP,
}


_LENGTH_DELIMITED: Final = 2
"""The wire type of a message within a message."""

_STREAMED: Final = {
    field.name: bytes([field.number << 3 | _LENGTH_DELIMITED])
    for field in pb.StreamCallsRequest.DESCRIPTOR.oneofs_by_name["call"].fields
}
"""What stands before the length of a call in its stream's message."""


def propose_request(
    context: Context, *, max_tokens: int, sampling: Sampling, stop: Sequence[str]
) -> bytes:
    """The request for a model's next segment, a `ProposeSegmentRequest`."""
    rest = pb.ProposeSegmentRequest(
        max_tokens=max_tokens,
        sampling=prompt_pb2.Sampling(
            temperature=sampling.temperature, top_p=sampling.top_p, top_k=sampling.top_k
        ),
        stop=stop,
        seed=sampling.seed,
    )
    return _only_context(context) + rest.SerializeToString()


def score_request(context: Context, candidates: Sequence[Candidate]) -> bytes:
    """The request for a model's opinion of the candidates, a `ScoreSegmentsRequest`."""
    rest = pb.ScoreSegmentsRequest(
        candidates=[pb.Candidate(text=one.text, finished=one.finished) for one in candidates],
    )
    return _only_context(context) + rest.SerializeToString()


def streamed(field: str, request: bytes, timeout: float | None) -> bytes:
    """A call of a stream, a `StreamCallsRequest`: `field` is of which kind the request is."""
    rest = pb.StreamCallsRequest(timeout_seconds=timeout)
    return _STREAMED[field] + _varint(len(request)) + request + rest.SerializeToString()


def proposal(response: pb.ProposeSegmentResponse) -> Proposal:
    """The segment a model proposed.

    Raises:
        ModelFailure: the response says something that the contract rules out.
    """
    segment = response.segment
    finish = _FINISHES.get(segment.finish)
    if finish is None:
        raise ModelFailure(f"a segment with finish {segment.finish}, which the contract lacks")
    own_score = _score(segment.own_score) if segment.HasField("own_score") else None
    context_tokens = response.usage.context_tokens
    return Proposal(segment.text, finish, segment.token_count, own_score, context_tokens)


def scores(response: pb.ScoreSegmentsResponse, *, expected: int) -> tuple[Score, ...]:
    """A model's score of each of `expected` candidates, in order.

    Raises:
        ModelFailure: the response says something that the contract rules out.
    """
    if len(response.scores) != expected:
        raise ModelFailure(f"{len(response.scores)} scores for {expected} candidates")
    return tuple(_score(score) for score in response.scores)


def _varint(number: int) -> bytes:
    """A length in protobuf's encoding: seven bits a byte, the lowest first."""
    encoded = bytearray()
    while number > 0x7F:  # noqa: PLR2004
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


@lru_cache(maxsize=4)  # members are asked right after one another, and prompts may be large
def _only_context(context: Context) -> bytes:
    """A request of which only the context is set: the field is the same of both.

    What encodes further fields, put after it, completes it: an encoding may be cut anywhere between
    fields (https://protobuf.dev/programming-guides/encoding/#last-one-wins).
    """
    message = pb.Context(committed_segments=context.committed, session_id=context.session_id)
    if isinstance(context.prompt, str):
        message.raw_prompt = context.prompt
    else:
        message.conversation.messages.extend(
            prompt_pb2.Message(role=_ROLES[turn.role], content=turn.content)
            for turn in context.prompt
        )
    return pb.ProposeSegmentRequest(context=message).SerializeToString()


def _score(score: pb.Score) -> Score:
    if not (math.isfinite(score.logprob_sum) and math.isfinite(score.probability_mean)):
        raise ModelFailure("a score that is not a finite number")
    return Score(
        score.logprob_sum,
        score.probability_mean,
        score.token_count,
        score.byte_count,
        _evidence(score.evidence) if score.HasField("evidence") else None,
    )


def _evidence(evidence: pb.Evidence) -> Evidence:
    """Every round decodes one for each member and candidate, so each number is read once."""
    total, largest, weakest = evidence.regret_sum, evidence.regret_max, evidence.weakest_logprob
    entropy, untold = evidence.entropy, evidence.untold
    places = [(place.offset, place.regret, place.best_logprob) for place in evidence.further]
    # What is not a finite number leaves no sum finite that it is in.
    others = sum([regret + best for _, regret, best in places])
    if not math.isfinite(total + largest + weakest + entropy + untold + others):
        raise ModelFailure("evidence that is not a finite number")
    return Evidence(
        total,
        largest,
        evidence.regret_offset,
        entropy if entropy or evidence.HasField("entropy") else None,
        weakest,
        evidence.weakest_offset,
        tuple(starmap(Disagreement, places)),
        untold if untold or evidence.HasField("untold") else None,
    )
