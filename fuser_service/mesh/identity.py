"""Which lineage a replica has, asked anew whenever it may have become another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fuser_service.mesh.lineage import Lineage


class Identity:
    """Asks by `ask`, once however many want to know, and calls `told` when there is an answer."""

    def __init__(self, ask: Callable[[], Awaitable[Lineage]], told: Callable[[], None]) -> None:
        self._ask = ask
        self._told = told
        self._asking: asyncio.Task[Lineage] | None = None
        self.last: Lineage | None = None
        """What it was when it was asked last, of which nothing may be true any more."""

    @property
    def known(self) -> Lineage | None:
        """What it is; None if that is still to be asked."""
        asked = self._asking
        return asked.result() if asked is not None and _answered(asked) else None

    def forget(self) -> None:
        """From now on it may be another."""
        self._asking = None

    def ask(self) -> asyncio.Task[Lineage]:
        """The question that is under way, or was answered."""
        if self._asking is None or (self._asking.done() and not _answered(self._asking)):
            self._asking = asyncio.create_task(self._asked())
            self._asking.add_done_callback(_answered)  # whose failure is no surprise to anybody
        return self._asking

    async def get(self) -> Lineage:
        """What it is.

        Raises:
            grpc.aio.AioRpcError: it cannot be asked.
        """
        while True:
            asking = self.ask()
            lineage = await asyncio.shield(asking)
            if asking is self._asking:  # else it may have become another meanwhile
                return lineage

    async def close(self) -> None:
        """Gives up asking."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    async def _asked(self) -> Lineage:
        lineage = await self._ask()
        if self._asking is asyncio.current_task():  # else it may have become another meanwhile
            self.last = lineage
            self._told()
        return lineage


def _answered(asked: asyncio.Task[Lineage]) -> bool:
    return asked.done() and not asked.cancelled() and asked.exception() is None
