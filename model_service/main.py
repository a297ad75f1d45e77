"""The model service, put together: the only place that builds its objects."""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from model_service.metrics import ModelMetrics
from model_service.service import ModelService
from model_service.servicer import rpc_service
from specfuse.errors import Misconfigured
from specfuse.rpc.metrics_http import MetricsEndpoint
from specfuse.rpc.server import RpcServer, run_until_signalled
from specfuse.rpc.tls import TlsFiles

if TYPE_CHECKING:
    from collections.abc import Callable

    from model_service.ports import Backend, BackendObserver
    from model_service.settings import Settings
    from specfuse.rpc.settings_types import ServerTls

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunningModelService:
    """A model service that serves. `backend` is what it serves from."""

    backend: Backend
    _server: RpcServer
    _metrics: MetricsEndpoint
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
        """Ends gracefully: health says so, calls in flight finish, then everything is closed."""
        await self._end(self._drain_seconds)

    async def stop(self) -> None:
        """Ends at once, cancelling what is in flight. Idempotent."""
        await self._end(0.0)

    async def _end(self, grace_seconds: float) -> None:
        try:
            await self._server.drain(grace_seconds)
        finally:
            await self.backend.close()
            await asyncio.to_thread(self._metrics.stop)


def _log_address(running: RunningModelService) -> None:
    _logger.info("%s on %s", running.backend.model.name, running.address)


async def serve(
    settings: Settings, announce: Callable[[RunningModelService], None] | None = None
) -> None:
    """Serves until SIGTERM or SIGINT, then drains. `announce` is told once it serves.

    Raises:
        Misconfigured: the settings cannot be served: no such model, a port in use, ...
    """
    running = await start(settings)
    if announce is not None:
        announce(running)
    await run_until_signalled(running.drain)


async def start(settings: Settings) -> RunningModelService:
    """Loads the model and serves it.

    Raises:
        Misconfigured: as `serve`.
    """
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    metrics = ModelMetrics(settings.name, registry)
    endpoint = MetricsEndpoint.start(settings.metrics_listen, registry)
    try:
        return await _started(settings, metrics, endpoint)
    except BaseException:
        await asyncio.to_thread(endpoint.stop)
        raise


async def _started(
    settings: Settings, metrics: ModelMetrics, endpoint: MetricsEndpoint
) -> RunningModelService:
    _logger.info("loading %s; metrics on %s", settings.name, endpoint.address)
    backend = await asyncio.to_thread(_open_backend, settings, metrics)
    try:
        service = ModelService(backend, settings.limits, metrics)
        server = RpcServer([rpc_service(service)], settings.listen, tls=_tls(settings.tls))
        await server.start()
    except BaseException:
        await backend.close()
        raise
    return RunningModelService(backend, server, endpoint, settings.drain_seconds)


def _open_backend(settings: Settings, observer: BackendObserver) -> Backend:
    """The backend of the settings, its model loaded. What the others need is not imported."""
    if settings.scripted is not None:
        from model_service.backends.scripted import ScriptedBackend  # noqa: PLC0415

        return ScriptedBackend(settings.name, settings.scripted, observer)
    assert settings.torch is not None  # noqa: S101 (settings agree with themselves)
    _check_directory(settings.torch.model)
    try:
        from model_service.backends.torch.backend import open_backend  # noqa: PLC0415
    except ImportError as error:
        raise Misconfigured(
            f"backend: torch needs what is not installed ({error.name}); "
            'pip install "specfuse[services,torch]"'
        ) from error
    return open_backend(settings.name, settings.torch, observer, on_loss=_end_at_once)


def _end_at_once() -> None:
    """Ends this process with an error, as a model that lost a part of it cannot be repaired.

    Its calls end as if the machine had failed: callers retry them on another replica.
    """
    _logger.critical("ending: the model lost one of its processes, and a restart is needed")
    os._exit(1)


def _check_directory(model: str) -> None:
    """Refuses what can only be a directory and is none, before anyone looks for it on the hub."""
    is_path = model.startswith(("/", ".", "~")) or model.count("/") > 1
    if is_path and not Path(model).is_dir():
        raise Misconfigured(
            f"torch.model: there is no directory {model}; give one that holds a model "
            "(config.json, weights, tokenizer.json), or the model's hub id, owner/name",
            model=model,
        )


def _tls(tls: ServerTls | None) -> TlsFiles | None:
    return None if tls is None else TlsFiles(tls.certificate, tls.key, tls.client_ca)
