"""The methods of a model service, called with requests that are encoded already."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import grpc.aio

from specfuse.v1 import model_service_pb2 as pb

if TYPE_CHECKING:
    Propose = grpc.aio.UnaryUnaryMultiCallable[bytes, pb.ProposeSegmentResponse]
    Score = grpc.aio.UnaryUnaryMultiCallable[bytes, pb.ScoreSegmentsResponse]
    Get = grpc.aio.UnaryUnaryMultiCallable[pb.GetModelRequest, pb.GetModelResponse]

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
        self.get_model: Get = channel.unary_unary(
            f"/{_SERVICE}/GetModel",
            request_serializer=pb.GetModelRequest.SerializeToString,
            response_deserializer=pb.GetModelResponse.FromString,
        )
