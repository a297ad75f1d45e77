"""Tells whoever waits that something is new."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable


class News:
    """Something that changes, and those who wait for that."""

    def __init__(self) -> None:
        self._version = 0
        self._changed = asyncio.Event()

    def tell(self) -> None:
        """It has changed."""
        self._version += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def each(self) -> AsyncIterator[None]:
        """Yields at once, and whenever it has changed since."""
        while True:
            seen = self._version
            yield
            while self._version == seen:
                await self._changed.wait()

    async def until(self, happened: Callable[[], bool]) -> None:
        """Returns once it has happened; looks after every change."""
        while not happened():
            await self._changed.wait()
