"""A registry of metrics, and the /metrics endpoint at which Prometheus scrapes it."""

from __future__ import annotations

from dataclasses import dataclass
from threading import Thread
from typing import Self
from wsgiref.simple_server import WSGIServer

from prometheus_client import (
    CollectorRegistry,
    PlatformCollector,
    ProcessCollector,
    start_http_server,
)

from specfuse.config.addresses import host_and_port
from specfuse.errors import Misconfigured


def service_registry() -> CollectorRegistry:
    """A registry for one service, with the metrics that every process has."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry


@dataclass(frozen=True, slots=True)
class MetricsEndpoint:
    """Serves a registry over HTTP from a thread of its own. `address` is `host:port` as bound."""

    address: str
    _server: WSGIServer
    _thread: Thread

    @classmethod
    def start(cls, listen: str, registry: CollectorRegistry) -> Self:
        """Binds `host:port` (port 0 takes a free one) and serves.

        Raises:
            Misconfigured: the address is malformed or taken.
        """
        host, port = host_and_port(listen, setting="metrics_listen")
        try:
            server, thread = start_http_server(port, host.strip("[]"), registry)
        except OSError as error:
            raise Misconfigured(
                f"metrics_listen: cannot bind {listen}: {error.strerror}; choose another address, "
                "or port 0 for a free port",
                listen=listen,
            ) from error
        return cls(f"{host}:{server.server_port}", server, thread)

    def stop(self) -> None:
        """Closes the port. Takes up to half a second."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
