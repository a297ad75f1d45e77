"""Which ensembles can be asked, told by the standard health service under their names.

One whose requests wait for members to wake can be asked at any time: were callers kept away from it
while its members sleep, nobody would wake them. The empty name is the process, which serves as long
as it runs: restarting it brings no member back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from fuser_service.service import FuserService
from specfuse.rpc.server import RpcServer

_EVERY_SECONDS: Final = 0.2
"""How far behind a report may be. Breakers close by the clock, so there is no event to wait for."""


@asynccontextmanager
async def reporting(service: FuserService, server: RpcServer) -> AsyncIterator[None]:
    """Reports until the context is left."""
    task = asyncio.create_task(_report(service, server))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _report(service: FuserService, server: RpcServer) -> None:
    said: dict[str, bool] = {}
    while True:
        # One that the settings have no more is still asked about, and cannot be used.
        now = dict.fromkeys(said, False)
        now |= {ensemble.name: ensemble.ready for ensemble in service.ensembles()}
        for name, ready in now.items():
            if said.get(name) is not ready:
                said[name] = ready
                await server.report(name, serving=ready)
        await asyncio.sleep(_EVERY_SECONDS)
