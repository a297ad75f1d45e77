"""Doors: the ways by which calls come into a service, whatever their transport."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import grpc.aio

from specfuse.config.types import ServerTls
from specfuse.rpc.server import RpcServer, RpcService
from specfuse.rpc.tls import TlsFiles


class Door(Protocol):
    """A server of one transport."""

    @property
    def address(self) -> str:
        """`host:port` as bound; empty before `start`."""

    async def start(self) -> None:
        """Binds and serves.

        Raises:
            Misconfigured: the address is malformed or taken, or the TLS files are wrong.
        """

    async def drain(self, grace_seconds: float) -> None:
        """Ends gracefully: takes no new calls, and what is in flight has `grace_seconds` to finish.

        Cancelling the drain stops at once.
        """


def grpc_door(
    service: RpcService,
    listen: str,
    tls: ServerTls | None,
    interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
) -> RpcServer:
    """The gRPC door of a service, as its settings have it. `tls` None is plain text."""
    files = None if tls is None else TlsFiles(tls.certificate, tls.key, tls.client_ca)
    return RpcServer([service], listen, tls=files, interceptors=interceptors)
