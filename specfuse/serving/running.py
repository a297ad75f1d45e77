"""A service that runs: its doors, its metrics, and what must be closed after them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Self

from prometheus_client import CollectorRegistry

from specfuse.observability.metrics_endpoint import MetricsEndpoint
from specfuse.serving.doors import Door
from specfuse.serving.ending import Ending
from specfuse.serving.signals import ignore_hangups, on_hangup, run_until_signalled

GRPC = "grpc"
"""The door that every service has."""

HTTP = "http"
"""The door for HTTP, where a service has one."""


@dataclass(frozen=True, slots=True)
class RunningService:
    """A service that serves at its doors, by name."""

    doors: Mapping[str, Door]
    metrics: MetricsEndpoint
    ending: Ending
    reread: Callable[[], None]
    """Reads again, from the files it was started with, what can change while it serves."""
    _rest: AsyncExitStack

    @classmethod
    async def start(
        cls,
        doors: Mapping[str, Door],
        metrics: MetricsEndpoint,
        ending: Ending,
        reread: Callable[[], None],
        rest: AsyncExitStack,
    ) -> Self:
        """Opens the doors, in order; if one cannot be opened, none is.

        Once all are open, takes over `rest`, which is closed after the doors at the end.

        Raises:
            Misconfigured: an address is malformed or taken.
        """
        async with AsyncExitStack() as opened:
            for door in doors.values():
                await door.start()
                opened.push_async_callback(door.drain, 0.0)
            opened.pop_all()
        return cls(doors, metrics, ending, reread, rest.pop_all())

    @property
    def address(self) -> str:
        """`host:port` of the gRPC door, as bound."""
        return self.doors[GRPC].address

    @property
    def http_address(self) -> str:
        """`host:port` of the HTTP door, as bound; empty if there is none."""
        return self.doors[HTTP].address if HTTP in self.doors else ""

    @property
    def metrics_address(self) -> str:
        """`host:port` of `/metrics`, as bound."""
        return self.metrics.address

    @property
    def stages(self) -> tuple[Callable[[], Coroutine[Any, Any, None]], ...]:
        """What it does at its end, one after the other."""
        lingering = self.ending.lingering
        return (self.drain,) if lingering is None else (lingering.over, self.drain)

    async def drain(self) -> None:
        """Ends gracefully: health says so, calls in flight finish, then everything is closed."""
        await self._end(self.ending.drain_seconds)

    async def stop(self) -> None:
        """Ends at once, cancelling what is in flight. Idempotent."""
        await self._end(0.0)

    async def _end(self, grace_seconds: float) -> None:
        self.ending.begins()
        try:
            async with asyncio.TaskGroup() as draining:
                for door in self.doors.values():
                    draining.create_task(door.drain(grace_seconds))
        finally:
            await self._rest.aclose()


async def serve(
    starting: Awaitable[RunningService],
    announce: Callable[[RunningService], None] | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT, then lingers if it is to, and drains.

    `announce` is called once it serves. On SIGHUP, its files are read again.
    """
    ignore_hangups()
    running = await starting
    with on_hangup(running.reread):
        if announce is not None:
            announce(running)
        await run_until_signalled(*running.stages)


async def open_metrics(
    listen: str, registry: CollectorRegistry, rest: AsyncExitStack
) -> MetricsEndpoint:
    """Serves the registry until `rest` is closed.

    Raises:
        Misconfigured: the address is malformed or taken.
    """
    endpoint = await MetricsEndpoint.start(listen, registry)
    rest.push_async_callback(endpoint.stop)
    return endpoint
