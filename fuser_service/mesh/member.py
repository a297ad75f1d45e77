"""A member of an ensemble behind gRPC, in one or more replicas."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import grpc

from fuser_service.core.types import Candidate, Context, MemberName, Proposal, Sampling, Score
from fuser_service.mesh import wire
from fuser_service.mesh.attempts import Attempts
from fuser_service.mesh.budget import Budget
from fuser_service.mesh.discovery.port import Discovery, Endpoint
from fuser_service.mesh.pace import Pace
from fuser_service.mesh.pool import Pool
from fuser_service.mesh.replica import Replica
from specfuse.deadline import Deadline

if TYPE_CHECKING:  # there are asynchronous stubs for the type checker only
    from specfuse.v1.model_service_pb2_grpc import ModelServiceAsyncStub

Request = TypeVar("Request")
Response = TypeVar("Response")


class GrpcMember:
    """Implements `fuser_service.fusion.ports.Member` over whatever replicas `discovery` knows.

    A session stays with one replica while that is healthy and not late. A call that finds its
    replica UNAVAILABLE moves to another at once; every other error is the member's answer.
    `connect` opens a channel without waiting for the other side, so none needs to be up.
    """

    def __init__(
        self,
        name: MemberName,
        discovery: Discovery,
        connect: Callable[[Endpoint], grpc.aio.Channel],
    ) -> None:
        self._name = name
        self._discovery = discovery
        self._pool = Pool(connect)
        self._budget = Budget()
        self._proposing = Pace()
        self._scoring = Pace()
        self._following: asyncio.Task[None] | None = None

    @property
    def name(self) -> MemberName:
        """Its name in the ensemble."""
        return self._name

    @property
    def ready(self) -> bool:
        """Whether some replica is thought to be able to answer."""
        return self._pool.ready

    async def start(self) -> None:
        """Learns the replicas, and follows their changes from now on."""
        updates = self._discovery.watch()
        self._pool.update(await anext(updates))
        self._following = asyncio.create_task(self._follow(updates))

    def reconnect(self, connect: Callable[[Endpoint], grpc.aio.Channel]) -> None:
        """Goes over to channels that `connect` opens. No call is dropped."""
        self._pool.reconnect(connect)

    async def stop(self) -> None:
        """Closes all channels; calls in flight are cancelled."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        await self._pool.close()

    async def propose(
        self,
        context: Context,
        *,
        max_tokens: int,
        sampling: Sampling,
        stop: Sequence[str],
        deadline: Deadline,
    ) -> Proposal:
        """The member's next segment, at most `max_tokens` of its own tokens."""
        request = wire.propose_request(context, max_tokens=max_tokens, sampling=sampling, stop=stop)
        send = partial(_send, request, lambda stub: stub.ProposeSegment)
        response = await self._attempts(context, send, self._proposing).run(deadline)
        return wire.proposal(response)

    async def score(
        self, context: Context, candidates: Sequence[Candidate], *, deadline: Deadline
    ) -> tuple[Score, ...]:
        """The member's score of each candidate, in order."""
        request = wire.score_request(context, candidates)
        send = partial(_send, request, lambda stub: stub.ScoreSegments)
        response = await self._attempts(context, send, self._scoring).run(deadline)
        return wire.scores(response, expected=len(candidates))

    def _attempts(
        self,
        context: Context,
        send: Callable[[Replica, Deadline], Awaitable[Response]],
        pace: Pace,
    ) -> Attempts[Response]:
        return Attempts(self._pool, context.session_id, send, pace, self._budget)

    async def _follow(self, updates: AsyncIterator[tuple[Endpoint, ...]]) -> None:
        async for endpoints in updates:
            self._pool.update(endpoints)


async def _send(
    request: Request,
    method: Callable[[ModelServiceAsyncStub], grpc.aio.UnaryUnaryMultiCallable[Request, Response]],
    replica: Replica,
    deadline: Deadline,
) -> Response:
    return await replica.call(method(replica.stub), request, deadline)
