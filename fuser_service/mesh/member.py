"""A member of an ensemble behind gRPC, in one or more replicas."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import grpc
from opentelemetry.trace import Tracer

from fuser_service.core.types import MemberName
from fuser_service.mesh.discovery.port import Address, Discovery
from fuser_service.mesh.participant import GrpcParticipant, MeshObserver, Shared
from fuser_service.mesh.pool import Pool
from specfuse.errors import Misconfigured
from specfuse.observability.tracing.spans import NO_TRACER

_DISCOVERY_SECONDS = 2.0
"""How long a start waits to know the replicas."""

_WATCH_AGAIN_SECONDS = 1.0
"""Pause before a discovery that broke is watched anew."""

_logger = logging.getLogger(__name__)


class GrpcMember:
    """Implements `fuser_service.fusion.ports.Member` over whatever replicas `discovery` knows.

    A query stays with one replica while it is healthy and not late. A call that finds its
    replica UNAVAILABLE moves to another at once; every other error is the member's answer.
    `connect` opens a channel without waiting for the other side, so none needs to be up.
    """

    def __init__(
        self,
        name: MemberName,
        discovery: Discovery,
        connect: Callable[[Address], grpc.aio.Channel],
        observer: MeshObserver,
        tracer: Tracer = NO_TRACER,
    ) -> None:
        self._name = name
        self._discovery = discovery
        self._pool = Pool(name, connect)
        self._shared = Shared(name, self._pool, observer, tracer)
        self._following: asyncio.Task[None] | None = None

    @property
    def name(self) -> MemberName:
        """Its name in the ensemble."""
        return self._name

    @property
    def ready(self) -> bool:
        """Whether some replica is thought to be able to answer."""
        return self._pool.ready

    @property
    def awake(self) -> bool:
        """Whether some replica says that it serves, however calls to it fared."""
        return self._pool.awake

    def when_changed(self, told: Callable[[], None]) -> None:
        """Has `told` be called, from now on, whenever `awake` may have changed."""
        self._pool.when_changed(told)

    def revisions(self) -> int:
        """Of how many lineages the replicas are that serve."""
        return len(self._pool.lineages)

    def join(self, session_id: str) -> GrpcParticipant:
        """Takes part in a query."""
        return GrpcParticipant(self._shared, session_id)

    async def start(self) -> None:
        """Follows the replicas from now on; returns once they are known, or soon without them.

        Raises:
            Misconfigured: TLS files are not what they should be.
        """
        known = asyncio.Event()
        self._following = asyncio.create_task(self._follow(known))
        waiting = asyncio.create_task(known.wait())
        first = {waiting, self._following}
        await asyncio.wait(first, timeout=_DISCOVERY_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self._following.done():
            self._following.result()
        elif not known.is_set():
            _logger.warning("%s: its replicas are not known yet", self._name)

    def reconnect(self, connect: Callable[[Address], grpc.aio.Channel]) -> None:
        """Goes over to channels that `connect` opens. No call is dropped."""
        self._pool.reconnect(connect)

    async def stop(self) -> None:
        """Closes all channels; calls in flight are cancelled."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        await self._pool.close()

    async def _follow(self, known: asyncio.Event) -> None:
        """Keeps the pool up to date; a discovery that breaks is watched anew."""
        while True:
            try:
                async for endpoints in self._discovery.watch():
                    self._pool.update(endpoints)
                    known.set()
            except Exception as error:
                if isinstance(error, Misconfigured) and not known.is_set():
                    raise
                _logger.exception("%s: finding its replicas failed; trying again", self._name)
            else:
                return
            await asyncio.sleep(_WATCH_AGAIN_SECONDS)
