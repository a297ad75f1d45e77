"""Whether the server is there, and still the one that was tried out.

A server may be restarted with another model while queries run, and would then score for a member
that it is not. So what it runs is asked for again whenever a connection was made: an answer that
came over a new one counts only once the server has said again who it is. It is also asked every few
seconds, which is how health follows it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeVar

from model_service.backends.remote.client import ServerClient
from model_service.backends.remote.server import Identity, Server
from model_service.ports import BackendHost
from specfuse.deadline import Deadline
from specfuse.errors import Misconfigured, SpecFuseError, Unavailable

_EVERY_SECONDS: Final = 5.0
_ANSWER_SECONDS: Final = 5.0
_logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")


class Watch:
    """Keeps an eye on one server. `run` until cancelled, beside the calls."""

    def __init__(
        self, server: Server, client: ServerClient, identity: Identity, host: BackendHost
    ) -> None:
        """`identity` is what was tried out; the host is told whether it is there."""
        self._server = server
        self._client = client
        self._identity = identity
        self._host = host
        self._identified_at = client.connections
        self._trouble: SpecFuseError | None = None
        self._look = asyncio.Event()

    async def run(self) -> None:
        """Looks after the server, every few seconds and whenever a call had trouble with it."""
        while True:
            with suppress(TimeoutError):
                # Not wait_for: until Python 3.12 it may swallow its own task's cancellation.
                async with asyncio.timeout(_EVERY_SECONDS):
                    await self._look.wait()
            self._look.clear()
            await self._looked()

    async def answer(self, call: Callable[[], Awaitable[Answer]], deadline: Deadline) -> Answer:
        """The server's answer to a call, from the server that was tried out.

        Raises:
            Unavailable: it is not there, or is another.
            SpecFuseError: what the call raises.
        """
        if self._trouble is not None:
            raise Unavailable(f"the server is not ready: {self._trouble.message}")
        try:
            answer = await call()
            if self._client.connections > self._identified_at:
                await self._identify(deadline)
        except Unavailable:
            self._look.set()
            raise
        except Misconfigured as error:
            self._look.set()
            raise Unavailable(f"the server is not what it was: {error.message}") from error
        return answer

    async def _looked(self) -> None:
        deadline = Deadline.after(_ANSWER_SECONDS)
        try:
            self._client.read_key()
            await self._identify(deadline)
        except SpecFuseError as error:
            self._settle(error)
            return
        self._settle(None)
        with suppress(SpecFuseError):  # who only does not tell how busy it is can be asked
            load = await self._server.load(deadline)
            if load is not None:
                self._host.observer.served(running=load.running, waiting=load.waiting)

    async def _identify(self, deadline: Deadline) -> None:
        connections = self._client.connections
        found = await self._server.identify(deadline)
        if found != self._identity:
            raise Misconfigured(f"it runs {found}, not {self._identity} any more")
        self._identified_at = max(self._identified_at, connections)

    def _settle(self, trouble: SpecFuseError | None) -> None:
        if (trouble is None) != (self._trouble is None):
            said = "ready again" if trouble is None else f"not ready: {trouble.message}"
            _logger.warning("the server that runs the model is %s", said)
            self._host.on_ready(trouble is None)
        self._trouble = trouble
