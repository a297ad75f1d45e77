"""A call that may get company: whichever of the two answers first counts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, Final, Generic, TypeVar

from specfuse.errors import Overloaded, Unavailable

Answer = TypeVar("Answer")

_ONES_OWN: Final = (Unavailable, Overloaded)
"""What one call may end with that says nothing of the other."""


class Race(Generic[Answer]):
    """The task that runs it makes the first call itself: most calls stay alone, and cost no more.

    If the second answers before it, the first is cancelled.
    """

    def __init__(self) -> None:
        self.second_won = False
        """Whether the answer is that of the second call. Only to be asked after `run`."""
        self.overtaken = False
        """Whether the first call was cancelled, as the second ended before it."""
        self._second: asyncio.Task[Answer] | None = None
        self._runner: asyncio.Task[Any] | None = None  # while it makes the first call

    def join(self, call: Coroutine[Any, Any, Answer]) -> None:
        """Makes a second call as well, at once."""
        self._second = asyncio.create_task(call)
        self._second.add_done_callback(self._second_ended)

    async def run(self, first: Awaitable[Answer]) -> Answer:
        """The first answer, or what a call ended with that the other cannot mend."""
        try:
            return await self._unless_overtaken(first)
        except (*_ONES_OWN, _Overtaken):
            if self._second is None:
                raise
            self.second_won = True
            return await self._second

    async def stop(self) -> None:
        """Ends a second call that is still being made."""
        if self._second is not None:
            self._second.cancel()
            await asyncio.gather(self._second, return_exceptions=True)

    async def _unless_overtaken(self, first: Awaitable[Answer]) -> Answer:
        runner = self._runner = asyncio.current_task()
        assert runner is not None  # noqa: S101 (coroutines run in tasks)
        cancelled_before = runner.cancelling()
        try:
            return await first
        except asyncio.CancelledError:
            others = runner.cancelling() - cancelled_before - self.overtaken
            if not self.overtaken or others > 0:
                raise
            raise _Overtaken from None
        finally:
            self._runner = None
            if self.overtaken:
                runner.uncancel()

    def _second_ended(self, second: asyncio.Task[Answer]) -> None:
        if second.cancelled() or self._runner is None:
            return
        if isinstance(second.exception(), _ONES_OWN):
            self._second = None
        else:
            self.overtaken = True
            self._runner.cancel()


class _Overtaken(Exception):
    """The second call ended before the first."""
