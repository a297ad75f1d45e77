"""The places of a fuser: how many requests are answered at a time, and who waits for one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeAlias

from fuser_service.tenancy.line import Line
from specfuse.deadline import Deadline
from specfuse.errors import DeadlineExceeded, Overloaded

Ticket: TypeAlias = "asyncio.Future[None]"


@dataclass(frozen=True, slots=True)
class Room:
    """Places for requests, and how many more may wait for one, and for how many seconds."""

    places: int
    waiting: int = 0
    waiting_seconds: float = 5.0


class Places:
    """Gives places to requests; those that wait have them by priority (see `Line`)."""

    def __init__(self, room: Room, clock: Callable[[], float] = time.monotonic) -> None:
        self._room = room
        self._clock = clock
        self._taken = 0
        self._line: Line[Ticket] = Line()

    @property
    def waiting(self) -> int:
        """How many requests wait for a place."""
        return len(self._line)

    @asynccontextmanager
    async def place(self, priority: int, deadline: Deadline) -> AsyncIterator[None]:
        """A place, for as long as the context lasts.

        Raises:
            Overloaded: as many as may wait do, with no lower priority; or none got free in time.
            DeadlineExceeded: the deadline passed while it waited.
        """
        if self._taken < self._room.places:
            self._taken += 1
        else:
            await self._wait(priority, deadline)
        try:
            yield
        finally:
            self._free()

    async def _wait(self, priority: int, deadline: Deadline) -> None:
        """Returns with a place."""
        ticket: Ticket = asyncio.get_running_loop().create_future()
        self._line.join(ticket, self._clock(), priority)
        if len(self._line) > self._room.waiting:
            last = self._line.last()
            if not last.done():
                last.set_exception(self._overloaded())
        try:
            async with asyncio.timeout(deadline.within(self._room.waiting_seconds).timeout):
                await ticket
        except BaseException as error:
            self._line.leave(ticket)
            if _given(ticket):  # in the moment that the wait ended
                self._free()
            if not isinstance(error, TimeoutError):
                raise
            if deadline.passed:
                message = "the caller's time was up before there was a place"
                raise DeadlineExceeded(message) from error
            raise self._overloaded() from error

    def _free(self) -> None:
        """Hands a place on to who is in front."""
        while self._line:
            ticket = self._line.next()
            if not ticket.done():  # else its request has just been cancelled
                ticket.set_result(None)
                return
        self._taken -= 1

    def _overloaded(self) -> Overloaded:
        limit = str(self._room.places)
        return Overloaded(f"{limit} requests are in flight, the limit; retry later", limit=limit)


def _given(ticket: Ticket) -> bool:
    return ticket.done() and not ticket.cancelled() and ticket.exception() is None
