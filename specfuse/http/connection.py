"""One connection: uvicorn's HTTP/1.1 over h11, with a limit on whatever is waited for.

Uvicorn itself waits for ever for the head of a request, the rest of a body, and for a caller to
read. Nothing that is kept for a caller here grows: what is read stops at the limits of h11 and
uvicorn, and what is written waits until it was taken.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from specfuse.http.bounds import Bounds

CONNECTION: Final = "connection"
"""Where a scope's `state` has the connection that the request came on."""

_GRACE: Final = 2
"""A body that nobody reads may take so many times as long as one that somebody waits for."""


class Awaited(Enum):
    """What of the caller is waited for."""

    HEAD = "head"
    BODY = "body"
    NEXT_REQUEST = "next request"
    NOTHING = "nothing"


_NOTHING_BEGUN: Final = frozenset({Awaited.HEAD, Awaited.NEXT_REQUEST})
"""Where there is no request yet: such a connection makes way if there are too many."""


class BoundedConnection(H11Protocol):
    """Serves one connection, and ends it when the caller keeps it waiting."""

    def __init__(
        self, config: Config, state: ServerState, bounds: Bounds, malformed: Callable[[], bytes]
    ) -> None:
        """`malformed` is the whole response to what is no HTTP, after which it is closed."""
        super().__init__(config, state, {CONNECTION: self})
        self.waited_for_since: float | None = None
        self.closed = asyncio.Event()
        self._bounds = bounds
        self._malformed = malformed
        self._awaited = Awaited.NOTHING
        self._limits = {
            Awaited.HEAD: bounds.handshake_seconds,
            Awaited.BODY: bounds.body_seconds * _GRACE,
            Awaited.NEXT_REQUEST: bounds.idle_seconds,
        }
        self._patience: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None

    @property
    def certificate(self) -> Mapping[str, Any] | None:
        """The caller's certificate, once TLS has verified it; None if it was not asked for one."""
        found: Mapping[str, Any] | None = self.transport.get_extra_info("peercert")
        return found

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401 (as its base)
        """Takes the connection, if there is room."""
        super().connection_made(transport)
        # Anything unread pauses writing. At 0, that of TLS would be paused for ever.
        transport.set_write_buffer_limits(high=1)
        if len(self.connections) > self._bounds.connections and not self._find_room():
            self.abort()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the connection."""
        for timer in (self._patience, self._stalled):
            if timer is not None:
                timer.cancel()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)
        self.closed.set()

    def data_received(self, data: bytes) -> None:
        """Reads on."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """The next request may come."""
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        """The caller has not read all that was written."""
        super().pause_writing()
        if self._stalled is None:
            self._stalled = self.loop.call_later(self._bounds.stall_seconds, self.abort)

    def resume_writing(self) -> None:
        """It has."""
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def send_400_response(self, msg: str) -> None:
        """Answers what is no HTTP, unless an answer is under way."""
        del msg
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE} and not self._answering:
            self.transport.write(self._malformed())
            self.transport.close()
        else:
            self.abort()

    def abort(self) -> None:
        """Closes the connection at once, whatever is unsent."""
        self.waited_for_since = None  # it is still among the others for a moment
        self.transport.abort()

    def finish(self) -> None:
        """Closes the connection once its request is answered and that was read; else at once."""
        if self._answering:
            self.cycle.keep_alive = False
        else:
            self.transport.close()

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _watch(self) -> None:
        """Gives the caller time for what is waited for now, if it was something else before."""
        awaited = self._awaited_now()
        if awaited is self._awaited:
            return
        self._awaited = awaited
        self.waited_for_since = time.monotonic() if awaited in _NOTHING_BEGUN else None
        if self._patience is not None:
            self._patience.cancel()
        limit = self._limits.get(awaited)
        self._patience = None if limit is None else self.loop.call_later(limit, self.abort)

    def _awaited_now(self) -> Awaited:
        if self.conn.their_state is h11.SEND_BODY:
            return Awaited.BODY
        if self.conn.their_state is not h11.IDLE:
            return Awaited.NOTHING
        begun, _ = self.conn.trailing_data
        return Awaited.HEAD if self.cycle is None or begun else Awaited.NEXT_REQUEST

    def _find_room(self) -> bool:
        """Closes the connection whose next request is waited for longest; False if none is."""
        others = [one for one in self.connections if isinstance(one, BoundedConnection)]
        waited_for = [one for one in others if one.waited_for_since is not None]
        if not waited_for:
            return False
        min(waited_for, key=lambda one: one.waited_for_since or 0.0).abort()
        return True
