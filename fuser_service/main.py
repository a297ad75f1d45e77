"""The fuser service, put together: the only place that builds its objects."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

from opentelemetry.trace import Tracer

from fuser_service.core.types import MemberName
from fuser_service.doors.grpc.health import reporting
from fuser_service.doors.grpc.servicer import rpc_service
from fuser_service.doors.openai.api import Around, application
from fuser_service.doors.openai.exchange import malformed
from fuser_service.fusion.readiness import Readiness
from fuser_service.fusion.runner import Fusion
from fuser_service.mesh.member import GrpcMember
from fuser_service.metrics import FuserMetrics
from fuser_service.reports import Book, Reports
from fuser_service.service import FuserService
from fuser_service.settings.rereading import Rereading
from fuser_service.settings.settings import Ensemble, Limits, Member, MemberTls, Settings
from fuser_service.tenancy.account import Account
from fuser_service.tenancy.admission import Admission
from fuser_service.tenancy.counters import Counters, LocalCounters
from fuser_service.tenancy.key_file import read_keys
from fuser_service.tenancy.keys import Key
from fuser_service.tenancy.ledger import open_ledger
from fuser_service.tenancy.places import Places, Room
from fuser_service.tenancy.settings import Accounting, Tenancy
from fuser_service.tenancy.tenants import Tenants
from specfuse.http.bounds import Bounds
from specfuse.http.server import HttpServer
from specfuse.observability.metrics_endpoint import service_registry
from specfuse.rpc.channels import open_channel
from specfuse.rpc.tls import ClientPem, ClientTls
from specfuse.serving import running
from specfuse.serving.certificate import Certificates
from specfuse.serving.descriptors import raise_descriptor_limit
from specfuse.serving.doors import Door, grpc_door
from specfuse.serving.ending import Ending
from specfuse.serving.files import FollowedFiles, following
from specfuse.serving.running import GRPC, HTTP, RunningService, open_metrics
from specfuse.serving.tracing import open_tracing

_RESOURCE: Final = {"service.name": "specfuse-fuser"}
"""What spans are of."""

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
    raise_descriptor_limit(sum(len(one.endpoints or ()) for one in settings.members.values()))
    await running.serve(start(settings, read), announce)


async def start(settings: Settings, read: Callable[[], Settings] | None = None) -> RunningService:
    """Serves. No member needs to be up. `read` reads the settings again.

    Raises:
        Misconfigured: as `serve`.
    """
    async with AsyncExitStack() as stack:
        registry = service_registry()
        tenancy = settings.tenancy or Tenancy(anonymous="allow")
        files = await stack.enter_async_context(following())
        certificates = Certificates(files, registry, stack)
        tracing = open_tracing(settings.tracing, _RESOURCE, files, registry, stack)
        metrics = FuserMetrics(
            registry,
            members=settings.members,
            ensembles=_members_of(settings.ensembles),
            teams=tenancy.teams,
        )
        endpoint = await open_metrics(settings.metrics_listen, registry, stack)
        members = await _started_members(settings.members, metrics, tracing.tracer, files, stack)
        readiness = Readiness(members, metrics, settings.limits.requests_in_flight)
        service = FuserService(
            Fusion(members, metrics, tracer=tracing.tracer),
            ensembles=settings.ensembles,
            readiness=readiness,
            limits=settings.limits,
            tenants=_open_tenants(tenancy, settings.limits, metrics, files, stack),
            reports=Reports(metrics, _open_book(tenancy.accounting, metrics, stack)),
        )
        tls = certificates.grpc(settings.tls)
        door = grpc_door(rpc_service(service), settings.listen, tls, tracing)
        doors: dict[str, Door] = {GRPC: door}
        if settings.http is not None:
            # Probes have no certificate; nobody else is answered without one, or a key.
            known = ssl.CERT_OPTIONAL if tenancy.anonymous == "refuse" else ssl.CERT_REQUIRED
            https = certificates.http(settings.http.tls, known)
            around = Around(
                metrics,
                bounds=Bounds(body_bytes=settings.http.body_bytes),
                asks=settings.http.page,
                loopback_only=settings.tenancy is None,
                tracing=tracing,
            )
            doors[HTTP] = _http_door(settings.http.listen, https, service, around)
        await stack.enter_async_context(reporting(service, door, metrics.standing))
        rereading = _rereading(settings, read, service, metrics)

        def reread() -> None:
            files.read_all()
            rereading.run()

        ending = Ending(settings.drain_seconds, begins=readiness.end)
        running = await RunningService.start(doors, endpoint, ending, reread, stack)
        _logger.info("fusing %s; metrics on %s", ", ".join(settings.ensembles), endpoint.address)
        return running


def _http_door(
    listen: str, tls: ssl.SSLContext | None, service: FuserService, around: Around
) -> HttpServer:
    return HttpServer(
        application(service, around),
        listen,
        tls=tls,
        bounds=around.bounds,
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
        metrics.expect(_members_of(ensembles))
        service.take(ensembles)

    return Rereading(settings, read or (lambda: settings), taken)


def _members_of(ensembles: Mapping[str, Ensemble]) -> dict[str, tuple[MemberName, ...]]:
    return {name: ensemble.members for name, ensemble in ensembles.items()}


def _open_tenants(
    settings: Tenancy,
    limits: Limits,
    metrics: FuserMetrics,
    files: FollowedFiles,
    stack: AsyncExitStack,
) -> Tenants:
    """Who may ask, known by keys that are followed until `stack` is closed."""
    anonymous = settings.anonymous == "allow"
    metrics.anonymous(allowed=anonymous)
    if anonymous:
        _logger.warning("tenancy: callers without a key are let in, as the team anonymous")
    counters = _open_counters(settings, metrics)
    stack.push_async_callback(counters.close)
    room = Room(limits.requests_in_flight, limits.requests_waiting, limits.waiting_seconds)
    places = Places(room)
    metrics.watch_waiting(lambda: places.waiting)
    admission = Admission(places, counters, settings.replicas)
    tenants = Tenants(admission, settings.directory())

    def take(keys: tuple[Key, ...]) -> None:
        tenants.take_keys(keys)
        metrics.keys_in_force(len(keys))
        _logger.info("tenancy.keys %s: %d keys", settings.keys, len(keys))

    if settings.keys is not None:
        read = partial(read_keys, settings.keys, tuple(settings.teams))
        take(files.follow([settings.keys], read, take))
    return tenants


def _open_counters(settings: Tenancy, metrics: FuserMetrics) -> Counters:
    own = LocalCounters(settings.replicas)
    if settings.store is None:
        return own
    from fuser_service.tenancy.store import SharedCounters  # noqa: PLC0415 (only some need it)

    return SharedCounters(settings.store, own, metrics.store_failed)


def _open_book(settings: Accounting | None, metrics: FuserMetrics, stack: AsyncExitStack) -> Book:
    """Where it is told what requests came to: metrics, and a ledger if there is to be one."""
    if settings is None:
        return metrics.book
    ledger = stack.enter_context(open_ledger(settings.file, metrics.line_lost))

    def book(account: Account) -> None:
        metrics.book(account)
        if account.team:  # else whoever can connect could fill the disk
            ledger.book(account)

    return book


async def _started_members(
    settings: Mapping[str, Member],
    metrics: FuserMetrics,
    tracer: Tracer,
    files: FollowedFiles,
    stack: AsyncExitStack,
) -> dict[str, GrpcMember]:
    """The members, connecting to their replicas until `stack` is closed."""
    members: dict[str, GrpcMember] = {}
    for name, member in settings.items():
        reconnect = partial(_reconnect, name, members)
        connect = partial(open_channel, tls=_followed_tls(member.tls, files, reconnect))
        members[name] = opened = GrpcMember(name, member.open(), connect, metrics, tracer)
        metrics.watch_revisions(name, opened.revisions)
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
