"""Counters that all replicas share, in a Redis or Valkey server.

Requests are counted exactly, in any 60 seconds. Tokens are counted by the minute, of which the last
one fades: `limits` calls that a sliding window counter. If the store fails, the replica counts by
itself, with its part of each limit: callers must not suffer from it, nor have everything.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from limits import RateLimitItemPerMinute
from limits.aio.storage import RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter, SlidingWindowCounterRateLimiter
from limits.errors import StorageError
from valkey.asyncio import ConnectionPool

from fuser_service.tenancy.caller import Team
from fuser_service.tenancy.counters import LocalCounters
from fuser_service.tenancy.settings import Store
from fuser_service.tenancy.window import WINDOW_SECONDS
from specfuse.errors import Misconfigured

Value = TypeVar("Value")

_LEFT_ALONE_SECONDS: Final = 5.0
"""A store that has failed is not asked for so long."""
_COUNT: Final = RateLimitItemPerMinute(10**12, namespace="specfuse")
"""Counts and never limits: an answer's tokens are known when it has ended, and count anyway."""

_logger = logging.getLogger(__name__)


class SharedCounters:
    """Counts in the store; `failed` is told of every time that it cannot be."""

    def __init__(
        self,
        settings: Store,
        own: LocalCounters,
        failed: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connects at the first request.

        Raises:
            Misconfigured: the password file cannot be read.
        """
        self._url = settings.url
        self._seconds = settings.timeout_seconds
        self._pool = ConnectionPool.from_url(
            settings.url,
            username=settings.username or None,
            password=_password(settings),
            socket_timeout=settings.timeout_seconds,
            socket_connect_timeout=settings.timeout_seconds,
        )
        pool: Any = self._pool  # limits' types know no pools
        storage = RedisStorage(
            f"async+{settings.url}",
            wrap_exceptions=True,
            implementation="valkey",
            connection_pool=pool,
        )
        self._requests = MovingWindowRateLimiter(storage)
        self._tokens = SlidingWindowCounterRateLimiter(storage)
        self._own = own
        self._failed = failed
        self._clock = clock
        self._asked_again_at = 0.0
        self._counting: set[asyncio.Task[None]] = set()

    async def take_request(self, team: Team) -> float:
        """As `Counters` says."""
        if team.requests_per_minute is None:
            return 0.0
        item = RateLimitItemPerMinute(team.requests_per_minute, namespace="specfuse")
        key = (team.name, "requests")

        async def ask() -> float:
            if await self._requests.hit(item, *key):
                return 0.0
            window = await self._requests.get_window_stats(item, *key)
            return max(1.0, window.reset_time - time.time())

        return await self._or_own(ask, lambda: self._own.take_request(team))

    async def tokens_wait(self, team: Team) -> float:
        """As `Counters` says; the seconds are an estimate."""
        limit = team.output_tokens_per_minute
        if limit is None:
            return 0.0

        async def ask() -> float:
            window = await self._tokens.get_window_stats(_COUNT, team.name, "tokens")
            used = _COUNT.amount - window.remaining
            return 0.0 if used < limit else max(1.0, WINDOW_SECONDS * (1 - limit / used))

        return await self._or_own(ask, lambda: self._own.tokens_wait(team))

    def count_tokens(self, team: Team, tokens: int) -> None:
        """As `Counters` says. Nobody waits for it."""
        if team.output_tokens_per_minute is not None and tokens:
            task = asyncio.create_task(self._count(team, tokens))
            self._counting.add(task)
            task.add_done_callback(self._counting.discard)

    async def close(self) -> None:
        """Ends the connections, once everything is counted."""
        await asyncio.gather(*self._counting)
        await self._pool.disconnect()

    async def _count(self, team: Team, tokens: int) -> None:
        async def tell() -> None:
            await self._tokens.hit(_COUNT, team.name, "tokens", cost=tokens)

        async def tell_own() -> None:
            self._own.count_tokens(team, tokens)

        await self._or_own(tell, tell_own)

    async def _or_own(
        self, shared: Callable[[], Awaitable[Value]], own: Callable[[], Awaitable[Value]]
    ) -> Value:
        """What the store says, or, where it fails or has just failed, what this process knows."""
        if self._clock() < self._asked_again_at:
            return await own()
        try:
            async with asyncio.timeout(self._seconds):
                return await shared()
        except (StorageError, OSError, TimeoutError) as error:
            self._asked_again_at = self._clock() + _LEFT_ALONE_SECONDS
            self._failed()
            _logger.warning(
                "tenancy.store %s: %s. Each replica counts by itself until it is back",
                self._url,
                str(error).rstrip(".") or "no answer in time",
            )
            return await own()


def _password(settings: Store) -> str | None:
    if settings.password_file is None:
        return None
    try:
        return settings.password_file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        problem = f"tenancy.store.password_file: {settings.password_file} cannot be read: {error}"
        raise Misconfigured(problem) from error
