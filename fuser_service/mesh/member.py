"""A member of an ensemble behind gRPC, in one or more replicas."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import TYPE_CHECKING, TypeVar

import grpc

from fuser_service.core.types import Candidate, Context, MemberName, Proposal, Sampling, Score
from fuser_service.mesh import wire
from fuser_service.mesh.balancing import Pins
from fuser_service.mesh.discovery.port import Discovery, Endpoint
from fuser_service.mesh.replica import Replica
from specfuse.deadline import Deadline
from specfuse.errors import Unavailable

if TYPE_CHECKING:
    from specfuse.v1.model_service_pb2_grpc import ModelServiceAsyncStub

Request = TypeVar("Request")
Response = TypeVar("Response")

ATTEMPTS = 3
"""Most replicas tried for one call."""

RETRY_JITTER_SECONDS = 0.05
"""Longest pause before the next replica is tried; random, so that not all fusers move at once."""


class GrpcMember:
    """Implements `fuser_service.fusion.ports.Member` over whatever replicas `discovery` knows.

    A session stays with one replica while that is healthy. A call that finds its replica
    UNAVAILABLE moves to another at once; every other error is the member's answer. `connect` opens
    a channel without waiting for the other side, so nobody needs to be up.
    """

    def __init__(
        self,
        name: MemberName,
        discovery: Discovery,
        connect: Callable[[Endpoint], grpc.aio.Channel],
    ) -> None:
        self._name = name
        self._discovery = discovery
        self._connect = connect
        self._replicas: dict[Endpoint, Replica] = {}
        self._pins = Pins()
        self._following: asyncio.Task[None] | None = None
        self._retiring: set[asyncio.Task[None]] = set()

    @property
    def name(self) -> MemberName:
        """Its name in the ensemble."""
        return self._name

    @property
    def ready(self) -> bool:
        """Whether some replica is thought to be able to answer."""
        return any(replica.hopeful for replica in self._replicas.values())

    async def start(self) -> None:
        """Learns the replicas, and follows their changes from now on."""
        updates = self._discovery.watch()
        self._update(await anext(updates))
        self._following = asyncio.create_task(self._follow(updates))

    async def stop(self) -> None:
        """Closes all channels; calls in flight are cancelled."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        await asyncio.gather(*(replica.close(grace=0) for replica in self._replicas.values()))
        self._replicas.clear()

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
        response = await self._call(
            lambda stub: stub.ProposeSegment, request, context.session_id, deadline
        )
        return wire.proposal(response)

    async def score(
        self, context: Context, candidates: Sequence[Candidate], *, deadline: Deadline
    ) -> tuple[Score, ...]:
        """The member's score of each candidate, in order."""
        request = wire.score_request(context, candidates)
        response = await self._call(
            lambda stub: stub.ScoreSegments, request, context.session_id, deadline
        )
        return wire.scores(response, expected=len(candidates))

    async def _call(
        self,
        method: Callable[
            [ModelServiceAsyncStub], grpc.aio.UnaryUnaryMultiCallable[Request, Response]
        ],
        request: Request,
        session_id: str,
        deadline: Deadline,
    ) -> Response:
        """The response of the session's replica, or of another if that one is UNAVAILABLE."""
        failure = Unavailable(
            f"no replica can be reached of: {', '.join(self._replicas) or 'none'}"
        )
        tried: set[Endpoint] = set()
        while len(tried) < ATTEMPTS and not (tried and deadline.passed):
            replica = self._pick(session_id, tried)
            if replica is None:
                break
            if tried:
                await asyncio.sleep(random.uniform(0, RETRY_JITTER_SECONDS))  # noqa: S311
            tried.add(replica.endpoint)
            try:
                return await replica.call(method(replica.stub), request, deadline)
            except Unavailable as error:
                failure = error
        raise failure

    def _pick(self, session_id: str, tried: Collection[Endpoint]) -> Replica | None:
        """The replica for the session among those not tried yet.

        What health says may be out of date, so an endpoint said to be down is asked when
        there is no better one; a breaker that is open speaks from experience and is obeyed.
        """
        allowed = [
            replica
            for replica in self._replicas.values()
            if replica.allowed and replica.endpoint not in tried
        ]
        candidates = [replica for replica in allowed if replica.hopeful] or allowed
        if not candidates:
            return None
        loads = {replica.endpoint: replica.in_flight for replica in candidates}
        return self._replicas[self._pins.pick(session_id, loads.keys(), loads)]

    async def _follow(self, updates: AsyncIterator[tuple[Endpoint, ...]]) -> None:
        async for endpoints in updates:
            self._update(endpoints)

    def _update(self, endpoints: tuple[Endpoint, ...]) -> None:
        """Connects to the endpoints that are new, and lets go of those that are gone."""
        for endpoint in endpoints:
            if endpoint not in self._replicas:
                self._replicas[endpoint] = Replica(endpoint, self._connect(endpoint))
        for endpoint in self._replicas.keys() - set(endpoints):
            task = asyncio.create_task(self._replicas.pop(endpoint).close())
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)
