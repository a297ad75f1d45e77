"""The fuser service, put together: the only place that builds its objects."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from fuser_service.doors.grpc import rpc_service
from fuser_service.fusion import Fusion
from fuser_service.mesh.discovery import StaticDiscovery
from fuser_service.mesh.member import GrpcMember
from fuser_service.metrics import FuserMetrics
from fuser_service.service import FuserService
from specfuse.rpc.channels import open_channel
from specfuse.rpc.metrics_http import MetricsEndpoint
from specfuse.rpc.server import RpcServer, run_until_signalled
from specfuse.rpc.tls import ClientTls, TlsFiles

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fuser_service.settings import Member, Settings
    from specfuse.rpc.settings_types import ServerTls

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunningFuserService:
    """A fuser service that serves."""

    _server: RpcServer
    _metrics: MetricsEndpoint
    _rest: AsyncExitStack
    _drain_seconds: float

    @property
    def address(self) -> str:
        """`host:port` of the gRPC service, as bound."""
        return self._server.address

    @property
    def metrics_address(self) -> str:
        """`host:port` of `/metrics`, as bound."""
        return self._metrics.address

    async def drain(self) -> None:
        """Ends gracefully: health says so, answers in flight finish, then everything is closed."""
        await self._end(self._drain_seconds)

    async def stop(self) -> None:
        """Ends at once, cancelling what is in flight. Idempotent."""
        await self._end(0.0)

    async def _end(self, grace_seconds: float) -> None:
        try:
            await self._server.drain(grace_seconds)
        finally:
            await self._rest.aclose()


async def serve(
    settings: Settings, announce: Callable[[RunningFuserService], None] | None = None
) -> None:
    """Serves until SIGTERM or SIGINT, then drains. `announce` is told once it serves.

    Raises:
        Misconfigured: the settings cannot be served: a port in use, TLS files that are wrong, ...
    """
    running = await start(settings)
    if announce is not None:
        announce(running)
    await run_until_signalled(running.drain)


async def start(settings: Settings) -> RunningFuserService:
    """Serves. No member needs to be up.

    Raises:
        Misconfigured: as `serve`.
    """
    async with AsyncExitStack() as stack:
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        metrics = FuserMetrics(
            registry,
            members=settings.members,
            ensembles=settings.ensembles,
            teams=settings.teams,
        )
        endpoint = MetricsEndpoint.start(settings.metrics_listen, registry)
        stack.push_async_callback(asyncio.to_thread, endpoint.stop)
        members = await _started_members(settings.members, stack)
        service = FuserService(
            Fusion(members, metrics),
            ensembles=settings.ensembles,
            members=members,
            limits=settings.limits,
            observer=metrics,
        )
        server = RpcServer([rpc_service(service)], settings.listen, tls=_server_tls(settings.tls))
        await server.start()
        _logger.info("fusing %s; metrics on %s", ", ".join(settings.ensembles), endpoint.address)
        return RunningFuserService(server, endpoint, stack.pop_all(), settings.drain_seconds)


async def _started_members(
    settings: Mapping[str, Member], stack: AsyncExitStack
) -> dict[str, GrpcMember]:
    """The members, connecting to their replicas until `stack` is closed."""
    members = {}
    for name, member in settings.items():
        connect = partial(open_channel, tls=_client_tls(member))
        members[name] = GrpcMember(name, StaticDiscovery(member.endpoints), connect)
        stack.push_async_callback(members[name].stop)
        await members[name].start()
    return members


def _server_tls(tls: ServerTls | None) -> TlsFiles | None:
    return None if tls is None else TlsFiles(tls.certificate, tls.key, tls.client_ca)


def _client_tls(member: Member) -> ClientTls | None:
    tls = member.tls
    return None if tls is None else ClientTls(tls.ca, tls.certificate, tls.key, tls.server_name)
