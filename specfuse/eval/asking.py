"""Questions put to a mesh: an ensemble's answer, and the best of whole responses."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

import grpc

from fuser_service.core.rules import Statistic
from fuser_service.core.shares import log_statistic, normalised
from fuser_service.core.types import Score, Shares
from specfuse.client import Answer, AsyncClient, ClientTls, Segment
from specfuse.eval.oracle import Draft
from specfuse.rpc.channels import open_channel
from specfuse.rpc.errors import from_rpc_error
from specfuse.v1 import model_service_pb2 as pb
from specfuse.v1 import prompt_pb2
from specfuse.v1.model_service_pb2_grpc import ModelServiceStub

if TYPE_CHECKING:  # there are asynchronous stubs for the type checker only
    from specfuse.v1.model_service_pb2_grpc import ModelServiceAsyncStub

_CALL_SECONDS = 120.0
"""Most that a call to a model may take; far more than models that work ever need."""
_GREEDY = prompt_pb2.Sampling(temperature=0.0)


@dataclass(frozen=True, slots=True)
class TimedAnswer:
    """An answer, and when its first segment and its end came, in seconds from the asking."""

    answer: Answer
    first_segment_seconds: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer as a candidate; `finished` unless it ran into max_tokens."""

    text: str
    finished: bool


class Mesh:
    """A running mesh to ask. `verifiers` are its models' own addresses, by member; may be empty."""

    def __init__(
        self, fuser: AsyncClient, verifiers: Mapping[str, str], tls: ClientTls | None = None
    ) -> None:
        """Connects at the first call; use it as a context manager. `tls` is for the verifiers."""
        self._client = fuser
        self._addresses = dict(verifiers)
        self._tls = tls
        self._verifiers: dict[str, ModelServiceAsyncStub] = {}
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._open.enter_async_context(self._client)
        for member, address in self._addresses.items():
            channel = await self._open.enter_async_context(open_channel(address, self._tls))
            self._verifiers[member] = ModelServiceStub(channel)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._open.aclose()

    @property
    def verifiers(self) -> tuple[str, ...]:
        """The members that can be asked to score whole responses."""
        return tuple(self._addresses)

    async def ensembles(self) -> dict[str, tuple[str, ...]]:
        """The members of every ensemble, by its name.

        Raises:
            SpecFuseError: whatever goes wrong.
        """
        return {one.name: one.members for one in await self._client.ensembles()}

    async def answer(self, prompt: str, ensemble: str, max_tokens: int | None) -> TimedAnswer:
        """An ensemble's answer, in one stream: what is measured must not hide what went wrong.

        Raises:
            SpecFuseError: whatever goes wrong.
        """
        began = time.perf_counter()
        first: float | None = None
        events = []
        stream = self._client.stream(
            prompt, ensemble=ensemble, max_tokens=max_tokens, resume="never"
        )
        async with aclosing(stream):
            async for event in stream:
                if first is None and isinstance(event, Segment):
                    first = time.perf_counter() - began
                events.append(event)
        seconds = time.perf_counter() - began
        return TimedAnswer(Answer.of(events), seconds if first is None else first, seconds)

    async def best_of(self, prompt: str, responses: Sequence[Response]) -> int:
        """The index of the response that the verifiers together prefer.

        Raises:
            SpecFuseError: whatever goes wrong.
        """
        distinct = tuple(dict.fromkeys(responses))
        shares = await asyncio.gather(
            *(self._judgement(verifier, prompt, distinct) for verifier in self._verifiers.values())
        )
        return responses.index(distinct[preferred(shares)])

    async def proposals(
        self, prompt: str, committed: Sequence[str], tokens: int
    ) -> tuple[Draft, ...]:
        """What each verifier would go on with after these segments, greedily.

        Raises:
            SpecFuseError: whatever goes wrong.
        """
        request = pb.ProposeSegmentRequest(
            context=_context(prompt, committed), max_tokens=tokens, sampling=_GREEDY
        )
        try:
            responses = await asyncio.gather(
                *(
                    verifier.ProposeSegment(request, timeout=_CALL_SECONDS)
                    for verifier in self._verifiers.values()
                )
            )
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        segments = [response.segment for response in responses]
        return tuple(Draft(one.text, one.finish == pb.SEGMENT_FINISH_END) for one in segments)

    async def _judgement(
        self, verifier: ModelServiceAsyncStub, prompt: str, responses: Sequence[Response]
    ) -> Shares:
        candidates = [pb.Candidate(text=one.text, finished=one.finished) for one in responses]
        request = pb.ScoreSegmentsRequest(context=_context(prompt), candidates=candidates)
        try:
            response = await verifier.ScoreSegments(request, timeout=_CALL_SECONDS)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        return shares_of(response.scores)


def _context(prompt: str, committed: Sequence[str] = ()) -> pb.Context:
    message = prompt_pb2.Message(role=prompt_pb2.ROLE_USER, content=prompt)
    conversation = prompt_pb2.Conversation(messages=[message])
    return pb.Context(conversation=conversation, committed_segments=committed)


def shares_of(scores: Sequence[pb.Score]) -> Shares:
    """A verifier's shares of whole responses: their geometric mean probabilities, normalised."""
    return normalised(
        [
            log_statistic(
                Score(one.logprob_sum, one.probability_mean, one.token_count, one.byte_count),
                Statistic.GEOMETRIC,
            )
            for one in scores
        ]
    )


def preferred(shares: Sequence[Shares]) -> int:
    """The index of the response with the largest mean share; of equals, the first."""
    means = [math.fsum(column) / len(column) for column in zip(*shares, strict=True)]
    return means.index(max(means))
