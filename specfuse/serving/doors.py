"""Doors: the ways by which calls come into a service, whatever their transport."""

from __future__ import annotations

from typing import Protocol

from specfuse.observability.tracing.requests import NONE, RequestSpans
from specfuse.rpc.server import RpcServer, RpcService
from specfuse.rpc.tls import RenewableTls


class Door(Protocol):
    """A server of one transport."""

    @property
    def address(self) -> str:
        """`host:port` as bound; empty before `start`."""

    async def start(self) -> None:
        """Binds and serves.

        Raises:
            Misconfigured: the address is malformed or taken.
        """

    async def drain(self, grace_seconds: float) -> None:
        """Ends gracefully: takes no new calls, and what is in flight has `grace_seconds` to finish.

        Cancelling the drain stops at once.
        """


def grpc_door(
    service: RpcService,
    listen: str,
    tls: RenewableTls | None,
    tracing: RequestSpans = NONE,
) -> RpcServer:
    """The gRPC door of a service. `tls` None is plain text."""
    return RpcServer([service], listen, tls=tls, tracing=tracing)
