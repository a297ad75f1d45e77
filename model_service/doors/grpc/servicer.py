"""The model service's gRPC door: converts a request, calls the service, converts the answer."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from typing import Any, Final

from grpc.aio import ServicerContext

from model_service.core.types import (
    Candidate,
    Context,
    Evidence,
    Message,
    Proposal,
    ProposeRequest,
    Role,
    Sampling,
    Score,
    ScoreRequest,
    SegmentFinish,
    Usage,
)
from model_service.service import ModelService
from specfuse.deadline import Deadline
from specfuse.errors import InvalidArgument
from specfuse.headers import LINEAGE, lineage_mark
from specfuse.rpc.server import RpcService, deadline_of
from specfuse.v1 import model_service_pb2 as pb
from specfuse.v1 import model_service_pb2_grpc as pb_grpc
from specfuse.v1 import prompt_pb2

SERVICE_NAME: Final = pb.DESCRIPTOR.services_by_name["ModelService"].full_name
DEFAULT_MAX_TOKENS: Final = 10

_ROLES: Final = {
    prompt_pb2.ROLE_SYSTEM: Role.SYSTEM,
    prompt_pb2.ROLE_USER: Role.USER,
    prompt_pb2.ROLE_ASSISTANT: Role.ASSISTANT,
}
_FINISHES: Final = {
    SegmentFinish.LENGTH: pb.SEGMENT_FINISH_LENGTH,
    SegmentFinish.END: pb.SEGMENT_FINISH_END,
    SegmentFinish.STOP: pb.SEGMENT_FINISH_STOP,
}


class ModelServicer(pb_grpc.ModelServiceServicer):
    """Answers `specfuse.v1.ModelService`. What it raises becomes a status in the server."""

    def __init__(self, service: ModelService) -> None:
        self._service = service

    async def ProposeSegment(  # noqa: N802
        self,
        request: pb.ProposeSegmentRequest,
        context: ServicerContext[pb.ProposeSegmentRequest, pb.ProposeSegmentResponse],
    ) -> pb.ProposeSegmentResponse:
        """Continues the context by one segment."""
        response = await self._proposal(request, deadline_of(context))
        context.set_trailing_metadata(self._mark())
        return response

    async def ScoreSegments(  # noqa: N802
        self,
        request: pb.ScoreSegmentsRequest,
        context: ServicerContext[pb.ScoreSegmentsRequest, pb.ScoreSegmentsResponse],
    ) -> pb.ScoreSegmentsResponse:
        """Scores candidate continuations."""
        response = await self._scores(request, deadline_of(context))
        context.set_trailing_metadata(self._mark())
        return response

    async def StreamCalls(  # noqa: N802
        self,
        requests: AsyncIterator[pb.StreamCallsRequest],
        context: ServicerContext[pb.StreamCallsRequest, pb.StreamCallsResponse],
    ) -> AsyncIterator[pb.StreamCallsResponse]:
        """Answers calls one after the other."""
        await context.send_initial_metadata(self._mark())
        async for request in requests:
            yield await self._answer(request, deadline_of(context))

    async def GetModel(  # noqa: N802
        self,
        request: pb.GetModelRequest,  # noqa: ARG002
        context: ServicerContext[pb.GetModelRequest, pb.GetModelResponse],  # noqa: ARG002
    ) -> pb.GetModelResponse:
        """Describes the model."""
        model = self._service.model
        return pb.GetModelResponse(
            name=model.name,
            revision=model.revision,
            tokenizer_fingerprint=model.tokenizer_fingerprint,
            context_window=model.context_window,
            backend=model.backend,
            capabilities=pb.Capabilities(
                tree_scoring=model.capabilities.tree_scoring,
                own_scores=model.capabilities.own_scores,
                prefix_cache=model.capabilities.prefix_cache,
                evidence=model.capabilities.evidence,
                streamed_calls=True,
            ),
        )

    async def _answer(
        self, request: pb.StreamCallsRequest, deadline: Deadline
    ) -> pb.StreamCallsResponse:
        """The answer to a call of a stream whose own deadline this is."""
        deadline = deadline.within(_timeout_seconds(request))
        match request.WhichOneof("call"):
            case "propose":
                return pb.StreamCallsResponse(
                    propose=await self._proposal(request.propose, deadline)
                )
            case "score":
                return pb.StreamCallsResponse(score=await self._scores(request.score, deadline))
            case _:
                raise InvalidArgument("call", "is missing; give propose or score")

    async def _proposal(
        self, request: pb.ProposeSegmentRequest, deadline: Deadline
    ) -> pb.ProposeSegmentResponse:
        proposal = await self._service.propose(_propose_request(request), deadline)
        return pb.ProposeSegmentResponse(segment=_segment(proposal), usage=_usage(proposal.usage))

    async def _scores(
        self, request: pb.ScoreSegmentsRequest, deadline: Deadline
    ) -> pb.ScoreSegmentsResponse:
        scores = await self._service.score(_score_request(request), deadline)
        with_tokens = request.include_token_logprobs
        return pb.ScoreSegmentsResponse(
            scores=[_score(each, with_tokens=with_tokens) for each in scores.scores],
            usage=_usage(scores.usage),
        )

    def _mark(self) -> tuple[tuple[str, str]]:
        """Says with answers what gave them: who asked GetModel may have asked another process."""
        model = self._service.model
        mark = lineage_mark(model.revision, model.tokenizer_fingerprint, model.backend)
        return ((LINEAGE, mark),)


def rpc_service(service: ModelService) -> RpcService:
    """The servicer, as a server takes it."""

    def register(servicer: Any, server: Any) -> None:  # noqa: ANN401 (the stubs' own types)
        pb_grpc.add_ModelServiceServicer_to_server(servicer, server)

    return RpcService(SERVICE_NAME, ModelServicer(service), register)


def _timeout_seconds(request: pb.StreamCallsRequest) -> float:
    if not request.HasField("timeout_seconds"):
        return math.inf
    if not request.timeout_seconds >= 0.0:  # also catches NaN
        raise InvalidArgument(
            "timeout_seconds",
            f"is {request.timeout_seconds}; must be at least 0",
            value=str(request.timeout_seconds),
        )
    return request.timeout_seconds


def _propose_request(request: pb.ProposeSegmentRequest) -> ProposeRequest:
    return ProposeRequest(
        context=_context(request),
        max_tokens=request.max_tokens if request.HasField("max_tokens") else DEFAULT_MAX_TOKENS,
        sampling=_sampling(request),
        stop=tuple(request.stop),
    )


def _score_request(request: pb.ScoreSegmentsRequest) -> ScoreRequest:
    candidates = (Candidate(each.text, each.finished) for each in request.candidates)
    return ScoreRequest(context=_context(request), candidates=tuple(candidates))


def _context(request: pb.ProposeSegmentRequest | pb.ScoreSegmentsRequest) -> Context:
    if not request.HasField("context"):
        raise InvalidArgument("context", "is missing; every call needs one")
    context = request.context
    return Context(
        prompt=_prompt(context),
        committed=tuple(context.committed_segments),
        session_id=context.session_id,
    )


def _prompt(context: pb.Context) -> tuple[Message, ...] | str:
    match context.WhichOneof("prompt"):
        case "conversation":
            messages = context.conversation.messages
            return tuple(_message(index, message) for index, message in enumerate(messages))
        case "raw_prompt":
            return context.raw_prompt
        case _:
            raise InvalidArgument(
                "context.prompt", "is missing; give a conversation or a raw_prompt"
            )


def _message(index: int, message: prompt_pb2.Message) -> Message:
    role = _ROLES.get(message.role)
    if role is None:
        raise InvalidArgument(
            f"context.conversation.messages[{index}].role",
            f"is {message.role}; must be ROLE_SYSTEM, ROLE_USER or ROLE_ASSISTANT",
            value=str(message.role),
        )
    return Message(role, message.content)


def _sampling(request: pb.ProposeSegmentRequest) -> Sampling:
    sampling = request.sampling
    return Sampling(
        temperature=sampling.temperature,
        top_p=sampling.top_p if sampling.HasField("top_p") else 1.0,
        top_k=sampling.top_k,
        seed=request.seed,
    )


def _segment(proposal: Proposal) -> pb.Segment:
    own_score = proposal.own_score
    return pb.Segment(
        text=proposal.text,
        finish=_FINISHES[proposal.finish],
        token_count=proposal.token_count,
        own_score=None if own_score is None else _score(own_score, with_tokens=False),
    )


def _score(score: Score, *, with_tokens: bool) -> pb.Score:
    return pb.Score(
        logprob_sum=score.logprob_sum,
        probability_mean=score.probability_mean,
        token_count=score.token_count,
        byte_count=score.byte_count,
        token_logprobs=score.token_logprobs if with_tokens else (),
        evidence=None if score.evidence is None else _evidence(score.evidence),
    )


def _evidence(evidence: Evidence) -> pb.Evidence:
    return pb.Evidence(
        regret_sum=evidence.regret_sum,
        regret_max=evidence.regret_max,
        regret_offset=evidence.regret_offset,
        entropy=evidence.entropy,
        weakest_logprob=evidence.weakest_logprob,
        weakest_offset=evidence.weakest_offset,
        further=[
            pb.Disagreement(
                offset=place.offset, regret=place.regret, best_logprob=place.best_logprob
            )
            for place in evidence.further
        ],
        untold=evidence.untold,
    )


def _usage(usage: Usage) -> prompt_pb2.Usage:
    return prompt_pb2.Usage(context_tokens=usage.context_tokens, cached_tokens=usage.cached_tokens)
