"""A member over real gRPC, without a fuser around it: what tests ask it, and how they wait."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import grpc
from opentelemetry.trace import Tracer

from fuser_service.core.types import Context, Proposal, Sampling
from fuser_service.mesh.balancing import ranked
from fuser_service.mesh.discovery.endpoints.discovery import ListedEndpoints
from fuser_service.mesh.discovery.port import Discovery, Endpoint
from fuser_service.mesh.member import GrpcMember
from fuser_service.mesh.participant import GrpcParticipant
from specfuse.deadline import Deadline
from specfuse.observability.tracing.spans import NO_TRACER
from specfuse.rpc.channels import open_channel
from tests.support.fuser_mesh import PATIENCE_SECONDS, Node


class ChangingDiscovery:
    """Endpoints that a test changes."""

    def __init__(self, *nodes: Node) -> None:
        self._updates: asyncio.Queue[tuple[Endpoint, ...]] = asyncio.Queue()
        self.change(*nodes)

    def change(self, *nodes: Node) -> None:
        self.say(*(Endpoint(node.address) for node in nodes))

    def say(self, *endpoints: Endpoint) -> None:
        self._updates.put_nowait(endpoints)

    async def watch(self) -> AsyncIterator[tuple[Endpoint, ...]]:
        while True:
            yield await self._updates.get()


class SecondCalls(Counter[str]):
    """Counts calls made again, by why, and queries that lost the member's revision."""

    def second_call(self, member: str, why: str) -> None:
        assert member == "a"
        self[why] += 1

    def revision_lost(self, member: str) -> None:
        assert member == "a"
        self["revision lost"] += 1


@asynccontextmanager
async def member_of(
    *nodes: Node,
    discovery: Discovery | None = None,
    connect: Callable[[str], grpc.aio.Channel] = open_channel,
    tracer: Tracer = NO_TRACER,
) -> AsyncIterator[GrpcMember]:
    known = discovery or ListedEndpoints(tuple(node.address for node in nodes))
    member = GrpcMember("a", known, connect, SecondCalls(), tracer)
    await member.start()
    try:
        yield member
    finally:
        await member.stop()


def member_at(*addresses: str) -> AbstractAsyncContextManager[GrpcMember]:
    """A member whose replicas are at these addresses."""
    return member_of(discovery=ListedEndpoints(addresses))


async def ask(
    member: GrpcMember, session: str = "s", seconds: float = PATIENCE_SECONDS
) -> Proposal:
    """What a query of the session is answered that asks nothing else."""
    query = member.join(session)
    try:
        return await go_on(query, session, seconds)
    finally:
        query.leave()


async def go_on(
    query: GrpcParticipant, session: str = "s", seconds: float = PATIENCE_SECONDS
) -> Proposal:
    """What a query is answered next."""
    return await query.propose(
        Context("?", (), session),
        max_tokens=2,
        sampling=Sampling(),
        stop=(),
        deadline=Deadline.after(seconds),
    )


def ranked_first(node: Node, other: Node) -> str:
    """A session that an idle mesh sends to this node rather than the other."""
    endpoints = (Endpoint(node.address), Endpoint(other.address))
    sessions = map(str, itertools.count())
    return next(one for one in sessions if ranked(one, endpoints)[0] == node.address)


async def until(happened: Callable[[], bool]) -> None:
    """Returns when it happened."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not happened():  # noqa: ASYNC110 (behind a socket)
            await asyncio.sleep(0.01)


def calls_of(*nodes: Node) -> list[int]:
    return [len(node.backend.sessions) for node in nodes]
