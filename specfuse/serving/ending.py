"""How a service ends once it is told to: it may linger, as if nothing had happened, then it drains.

Callers learn from elsewhere that it will end (Kubernetes says of an endpoint that it terminates),
send it nothing new, and finish with it what they began: many calls may make up one answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

_QUIET_SECONDS: Final = 2.0
"""A service to which no call came for so long has nobody left who would come back."""

_logger = logging.getLogger(__name__)


class Frequented(Protocol):
    """A door that knows when calls come."""

    async def quiet(self, seconds: float) -> None:
        """Returns once no call was served for so many seconds on end."""


@dataclass(frozen=True, slots=True)
class Lingering:
    """Serving on as before, for as long as calls come to a door, but at most so many seconds."""

    door: Frequented
    seconds: float

    async def over(self) -> None:
        """Returns once it is."""
        _logger.info("serving on for up to %g s, while calls come", self.seconds)
        with suppress(TimeoutError):
            async with asyncio.timeout(self.seconds):
                await self.door.quiet(_QUIET_SECONDS)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a service ends: calls in flight have `drain_seconds` to finish, once it has lingered.

    `begins` is called when that begins, and no later call is taken.
    """

    drain_seconds: float
    lingering: Lingering | None = None
    begins: Callable[[], None] = lambda: None
