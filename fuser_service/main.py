"""The fuser service, put together: the only place that builds its objects."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from functools import partial

from fuser_service.doors.grpc.health import reporting
from fuser_service.doors.grpc.servicer import rpc_service
from fuser_service.doors.openai.api import Around, application
from fuser_service.doors.openai.exchange import malformed
from fuser_service.fusion.runner import Fusion
from fuser_service.mesh.member import GrpcMember
from fuser_service.metrics import FuserMetrics
from fuser_service.service import FuserService
from fuser_service.settings.rereading import Rereading
from fuser_service.settings.settings import Ensemble, Http, Member, MemberTls, Settings
from specfuse.http.bounds import Bounds
from specfuse.http.server import HttpServer
from specfuse.observability.metrics_endpoint import service_registry
from specfuse.rpc.channels import open_channel
from specfuse.rpc.tls import ClientPem, ClientTls
from specfuse.serving import running
from specfuse.serving.certificate import Certificates
from specfuse.serving.doors import Door, grpc_door
from specfuse.serving.files import FollowedFiles, following
from specfuse.serving.running import GRPC, HTTP, RunningService, open_metrics

_logger = logging.getLogger(__name__)


async def serve(
    settings: Settings,
    announce: Callable[[RunningService], None] | None = None,
    read: Callable[[], Settings] | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT, then drains. `announce` is called once it serves.

    On SIGHUP, certificates are read again, and so are the ensembles if there is a `read`.

    Raises:
        Misconfigured: the settings cannot be served: a port in use, TLS files that are wrong, ...
    """
    await running.serve(start(settings, read), announce)


async def start(settings: Settings, read: Callable[[], Settings] | None = None) -> RunningService:
    """Serves. No member needs to be up. `read` reads the settings again.

    Raises:
        Misconfigured: as `serve`.
    """
    async with AsyncExitStack() as stack:
        registry = service_registry()
        files = await stack.enter_async_context(following())
        certificates = Certificates(files, registry, stack)
        metrics = FuserMetrics(
            registry,
            members=settings.members,
            ensembles=settings.ensembles,
            teams=settings.teams,
        )
        endpoint = await open_metrics(settings.metrics_listen, registry, stack)
        members = await _started_members(settings.members, metrics, files, stack)
        service = FuserService(
            Fusion(members, metrics),
            ensembles=settings.ensembles,
            members=members,
            limits=settings.limits,
            observer=metrics,
        )
        tls = certificates.grpc(settings.tls)
        door = grpc_door(rpc_service(service), settings.listen, tls)
        doors: dict[str, Door] = {GRPC: door}
        if settings.http is not None:
            https = certificates.http(settings.http.tls)
            doors[HTTP] = _http_door(settings.http, https, service, metrics)
        await stack.enter_async_context(reporting(service, door))
        rereading = _rereading(settings, read, service, metrics)

        def reread() -> None:
            files.read_all()
            rereading.run()

        running = await RunningService.start(doors, endpoint, settings.drain_seconds, reread, stack)
        _logger.info("fusing %s; metrics on %s", ", ".join(settings.ensembles), endpoint.address)
        return running


def _http_door(
    settings: Http, tls: ssl.SSLContext | None, service: FuserService, metrics: FuserMetrics
) -> HttpServer:
    bounds = Bounds(body_bytes=settings.body_bytes)
    return HttpServer(
        application(service, Around(metrics, bounds=bounds, asks=settings.page)),
        settings.listen,
        tls=tls,
        bounds=bounds,
        malformed=malformed,
        setting="http.listen",
    )


def _rereading(
    settings: Settings,
    read: Callable[[], Settings] | None,
    service: FuserService,
    metrics: FuserMetrics,
) -> Rereading:
    def taken(ensembles: Mapping[str, Ensemble]) -> None:
        metrics.expect(ensembles)
        service.take(ensembles)

    return Rereading(settings, read or (lambda: settings), taken)


async def _started_members(
    settings: Mapping[str, Member],
    metrics: FuserMetrics,
    files: FollowedFiles,
    stack: AsyncExitStack,
) -> dict[str, GrpcMember]:
    """The members, connecting to their replicas until `stack` is closed."""
    members: dict[str, GrpcMember] = {}
    for name, member in settings.items():
        reconnect = partial(_reconnect, name, members)
        connect = partial(open_channel, tls=_followed_tls(member.tls, files, reconnect))
        members[name] = GrpcMember(name, member.open(), connect, metrics)
    stack.push_async_callback(_stop, members.values())
    try:
        async with asyncio.TaskGroup() as starting:
            for started in members.values():
                starting.create_task(started.start())
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from failed
    return members


async def _stop(members: Iterable[GrpcMember]) -> None:
    await asyncio.gather(*(member.stop() for member in members))


def _followed_tls(
    settings: MemberTls | None, files: FollowedFiles, renewed: Callable[[ClientPem], None]
) -> ClientPem | None:
    """The TLS of a member as its files are now; `renewed` is called when they change."""
    if settings is None:
        return None
    tls = ClientTls(settings.ca, settings.certificate, settings.key, settings.server_name)
    return files.follow(tls.paths, tls.read, renewed)


def _reconnect(name: str, members: Mapping[str, GrpcMember], tls: ClientPem) -> None:
    _logger.info("members.%s.tls: read again; connecting anew", name)
    members[name].reconnect(partial(open_channel, tls=tls))
