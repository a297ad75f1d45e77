"""How many requests the server is sent at a time: it refuses more than it was started for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from specfuse.deadline import Deadline
from specfuse.errors import DeadlineExceeded

Answer = TypeVar("Answer")


class Places:
    """As many places as the server has."""

    def __init__(self, count: int) -> None:
        """`count` is at least 1."""
        self._places = asyncio.Semaphore(count)
        self.count = count

    @asynccontextmanager
    async def one(self, deadline: Deadline) -> AsyncIterator[None]:
        """A place, until the context is left.

        Raises:
            DeadlineExceeded: none was free in time.
        """
        try:
            async with asyncio.timeout(deadline.timeout):
                await self._places.acquire()
        except TimeoutError:
            raise DeadlineExceeded("the server was full until the time was up") from None
        try:
            yield
        finally:
            self._places.release()


async def together(works: Sequence[Coroutine[Any, Any, Answer]]) -> list[Answer]:
    """What all of them give, in order. If one fails, the others end before its error is raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
