"""Which of the server's slots a session is computed in.

A slot holds the keys and values of one context. A request that names no slot goes to any, and would
compute the context anew there. So a session keeps its slot, for as long as no other needs it more,
and its requests go there one after another.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Slots:
    """The slots of one server, by the sessions that have them."""

    def __init__(self, count: int) -> None:
        """`count` is the number of slots, at least 1."""
        self._locks = [asyncio.Lock() for _ in range(count)]
        self._waiting = [0] * count
        self._sessions: OrderedDict[int, str] = OrderedDict((slot, "") for slot in range(count))

    def __len__(self) -> int:
        return len(self._locks)

    @asynccontextmanager
    async def of(self, session: str) -> AsyncIterator[int]:
        """The session's slot, for it alone until the context is left."""
        slot = self._chosen(session)
        self._sessions[slot] = session
        self._sessions.move_to_end(slot)
        self._waiting[slot] += 1
        try:
            async with self._locks[slot]:
                yield slot
        finally:
            self._waiting[slot] -= 1

    def _chosen(self, session: str) -> int:
        """The session's own slot, or else the one that is least wanted, and longest unused."""
        own = (slot for slot, owner in self._sessions.items() if session and owner == session)
        return next(own, min(self._sessions, key=lambda slot: self._waiting[slot]))
