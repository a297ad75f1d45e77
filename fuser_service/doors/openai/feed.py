"""An answer's events, for whoever must not wait for the next one alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Any, Self

from fuser_service.fusion.events import Event, Finished
from specfuse.errors import SpecFuseError


class Feed:
    """Hands over the events of a query. A context manager: once it is left, all work has ended."""

    def __init__(self, events: AsyncGenerator[Event, None]) -> None:
        self._events = events
        self._coming: asyncio.Task[Event] | None = None
        self._ending: asyncio.Future[SpecFuseError] = asyncio.get_running_loop().create_future()

    async def next(self, seconds: float | None = None) -> Event | None:
        """The next event; None if there is none within so many seconds.

        Raises:
            SpecFuseError: the query failed, or was ended.
        """
        if self._coming is None:
            self._coming = asyncio.ensure_future(anext(self._events))
        waited: set[asyncio.Future[Any]] = {self._coming, self._ending}
        await asyncio.wait(waited, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if self._ending.done():
            raise self._ending.result()
        if not self._coming.done():
            return None
        event, self._coming = self._coming.result(), None
        if isinstance(event, Finished):
            # To leave it here would look like a caller that goes away before the end.
            async for _ in self._events:
                raise RuntimeError("an event after the end")
        return event

    def end_with(self, error: SpecFuseError) -> None:
        """Has whoever waits for the next event get this error instead."""
        if not self._ending.done():
            self._ending.set_result(error)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._coming is not None:
            self._coming.cancel()
            await asyncio.wait({self._coming})
            if not self._coming.cancelled():
                self._coming.exception()  # seen, so that nobody is told of it later
        await self._events.aclose()
