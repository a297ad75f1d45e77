"""A registry of metrics, and the /metrics endpoint at which Prometheus scrapes it."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Final, Self

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder, gzip_accepted

from specfuse.config.addresses import host_and_port, listening_socket
from specfuse.errors import Misconfigured
from specfuse.observability.http_server import HttpServer, Request, Response

_PATH: Final = "/metrics"
_METHODS: Final = ("GET", "HEAD")


def service_registry() -> CollectorRegistry:
    """A registry for one service, with the metrics that every process has."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry


@dataclass(frozen=True, slots=True)
class MetricsEndpoint:
    """Serves a registry over HTTP in the running event loop. `address` is `host:port` as bound."""

    address: str
    _server: HttpServer
    _renderer: Executor

    @classmethod
    async def start(cls, listen: str, registry: CollectorRegistry) -> Self:
        """Binds `host:port` (port 0 takes a free one) and serves.

        Raises:
            Misconfigured: the address is malformed or taken.
        """
        host, port = host_and_port(listen, setting="metrics_listen")
        try:
            listener = listening_socket(host, port)
        except OSError as error:
            raise Misconfigured(
                f"metrics_listen: cannot bind {listen}: {error.strerror}; choose another address, "
                "or port 0 for a free port",
                listen=listen,
            ) from error
        # A thread of its own, as those that all share may be busy for long.
        renderer = ThreadPoolExecutor(1, thread_name_prefix="metrics")
        server = HttpServer(partial(_answer, registry, renderer))
        await server.start(listener)
        return cls(f"{host}:{listener.getsockname()[1]}", server, renderer)

    async def stop(self) -> None:
        """Closes the port and every connection, at once."""
        await self._server.stop()
        self._renderer.shutdown(wait=False, cancel_futures=True)


async def _answer(registry: CollectorRegistry, renderer: Executor, request: Request) -> Response:
    if request.path != _PATH:
        return Response.of_text(HTTPStatus.NOT_FOUND, f"the metrics are at {_PATH}")
    if request.method not in _METHODS:
        return Response.of_text(HTTPStatus.METHOD_NOT_ALLOWED, Allow=", ".join(_METHODS))
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(renderer, _rendered, registry, request.headers)


def _rendered(registry: CollectorRegistry, headers: Mapping[str, str]) -> Response:
    """The metrics, in the format and encoding that the caller asks for."""
    try:
        encoder, content_type = choose_encoder(headers.get("accept", ""))
    except (TypeError, ValueError):  # a version that is none
        encoder, content_type = choose_encoder("")
    body = encoder(registry)
    if not gzip_accepted(headers.get("accept-encoding", "")):
        return Response(HTTPStatus.OK, body, {"Content-Type": content_type})
    zipped = {"Content-Type": content_type, "Content-Encoding": "gzip"}
    return Response(HTTPStatus.OK, gzip.compress(body), zipped)
