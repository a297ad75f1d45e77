"""The methods of a model service, called with requests that are encoded already."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, Literal, TypeVar

import grpc.aio

from specfuse.v1 import model_service_pb2 as pb

if TYPE_CHECKING:
    Propose = grpc.aio.UnaryUnaryMultiCallable[bytes, pb.ProposeSegmentResponse]
    Score = grpc.aio.UnaryUnaryMultiCallable[bytes, pb.ScoreSegmentsResponse]
    Get = grpc.aio.UnaryUnaryMultiCallable[pb.GetModelRequest, pb.GetModelResponse]
    Stream = grpc.aio.StreamStreamMultiCallable[bytes, pb.StreamCallsResponse]

Response = TypeVar("Response")

_SERVICE: Final = pb.DESCRIPTOR.services_by_name["ModelService"].full_name


class ModelServiceStub:
    """The generated stub would encode a request anew for each member; `wire` does so once."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.propose_segment: Propose = channel.unary_unary(
            f"/{_SERVICE}/ProposeSegment",
            response_deserializer=pb.ProposeSegmentResponse.FromString,
        )
        self.score_segments: Score = channel.unary_unary(
            f"/{_SERVICE}/ScoreSegments", response_deserializer=pb.ScoreSegmentsResponse.FromString
        )
        self.stream_calls: Stream = channel.stream_stream(
            f"/{_SERVICE}/StreamCalls", response_deserializer=pb.StreamCallsResponse.FromString
        )
        self.get_model: Get = channel.unary_unary(
            f"/{_SERVICE}/GetModel",
            request_serializer=pb.GetModelRequest.SerializeToString,
            response_deserializer=pb.GetModelResponse.FromString,
        )


@dataclass(frozen=True, slots=True)
class Method(Generic[Response]):
    """A method that may be called by itself (`unary`) or within a stream of calls.

    `field` is where a stream's messages have the call and its answer, which `answer` takes out.
    """

    name: str
    field: Literal["propose", "score"]
    unary: Callable[[ModelServiceStub], grpc.aio.UnaryUnaryMultiCallable[bytes, Response]]
    answer: Callable[[pb.StreamCallsResponse], Response]


PROPOSE: Final = Method(
    "ProposeSegment", "propose", lambda stub: stub.propose_segment, lambda one: one.propose
)
SCORE: Final = Method(
    "ScoreSegments", "score", lambda stub: stub.score_segments, lambda one: one.score
)
