"""The model service, put together: the only place that builds its objects."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import AsyncExitStack

from model_service.backends.registry import open_backend
from model_service.doors.grpc.health import Readiness, reporting
from model_service.doors.grpc.servicer import rpc_service
from model_service.metrics import ModelMetrics
from model_service.ports import BackendHost
from model_service.service import ModelService
from model_service.settings import Settings
from specfuse.observability.metrics_endpoint import service_registry
from specfuse.serving import running
from specfuse.serving.certificate import Certificates
from specfuse.serving.descriptors import raise_descriptor_limit
from specfuse.serving.doors import grpc_door
from specfuse.serving.ending import Ending, Lingering
from specfuse.serving.files import following
from specfuse.serving.running import GRPC, RunningService, open_metrics
from specfuse.serving.tracing import open_tracing

_logger = logging.getLogger(__name__)


async def serve(
    settings: Settings, announce: Callable[[RunningService], None] | None = None
) -> None:
    """Serves until SIGTERM or SIGINT, then lingers and drains. `announce` is called once it serves.

    Raises:
        Misconfigured: the settings cannot be served: no such model, a port in use, ...
    """
    raise_descriptor_limit()
    await running.serve(start(settings), announce)


async def start(settings: Settings) -> RunningService:
    """Opens the backend and serves its model.

    Raises:
        Misconfigured: as `serve`.
    """
    async with AsyncExitStack() as stack:
        registry = service_registry()
        files = await stack.enter_async_context(following())
        tls = Certificates(files, registry, stack).grpc(settings.tls)
        resource = {"service.name": "specfuse-model", "specfuse.member": settings.name}
        tracing = open_tracing(settings.tracing, resource, files, registry, stack)
        metrics = ModelMetrics(settings.name, registry)
        endpoint = await open_metrics(settings.metrics_listen, registry, stack)
        _logger.info("loading %s; metrics on %s", settings.name, endpoint.address)
        readiness = Readiness()
        host = BackendHost(settings.name, metrics, _end_at_once, readiness.set, tracing.tracer)
        backend = await open_backend(settings.backend, settings.chosen, host)
        stack.push_async_callback(backend.close)
        service = ModelService(backend, settings.limits, metrics, tracing.tracer)
        door = grpc_door(rpc_service(service), settings.listen, tls, tracing)
        await stack.enter_async_context(reporting(readiness, door))
        seconds = settings.linger_seconds
        ending = Ending(settings.drain_seconds, Lingering(door, seconds) if seconds else None)
        return await RunningService.start({GRPC: door}, endpoint, ending, files.read_all, stack)


def _end_at_once() -> None:
    """Ends this process with an error, as a model that lost a part of it cannot be repaired.

    Its calls end as if the machine had failed: callers retry them on another replica.
    """
    _logger.critical("ending: the model lost one of its processes, and a restart is needed")
    os._exit(1)
