"""Whether the model can be used, told by the standard health service.

What a backend depends on may go away and come back: a server that runs the model elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from model_service.doors.grpc.servicer import SERVICE_NAME
from specfuse.rpc.server import RpcServer

_NAMES: Final = ("", SERVICE_NAME)
"""The process's name, which the mesh watches, and the service's."""


class Readiness:
    """Whether the backend can be used. It can at the start."""

    def __init__(self) -> None:
        self._ready = True
        self._changed = asyncio.Event()

    def set(self, ready: bool) -> None:  # noqa: FBT001 (there is nothing else to say)
        """Says so, on the event loop."""
        self._ready = ready
        self._changed.set()

    async def next(self) -> bool:
        """What was said last, once something has been said."""
        await self._changed.wait()
        self._changed.clear()
        return self._ready


@asynccontextmanager
async def reporting(readiness: Readiness, server: RpcServer) -> AsyncIterator[None]:
    """Reports until the context is left."""
    task = asyncio.create_task(_report(readiness, server))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _report(readiness: Readiness, server: RpcServer) -> None:
    while True:
        ready = await readiness.next()
        for name in _NAMES:
            await server.report(name, serving=ready)
