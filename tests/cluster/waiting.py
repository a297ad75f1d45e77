"""Waiting for what nobody tells of: it is looked for, again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from tests.cluster.api import PATIENCE_SECONDS

_LOOK_SECONDS: Final = 0.2


async def until(happened: Callable[[], Awaitable[bool]]) -> None:
    """Returns once it has happened.

    Raises:
        TimeoutError: it never did.
    """
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await happened():  # noqa: ASYNC110 (it is at others)
            await asyncio.sleep(_LOOK_SECONDS)
