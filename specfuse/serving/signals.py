"""A process that serves until it is told to end, and on SIGHUP reads its files again."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
"""What ends a service: the first has it end in good order, each further one ends what it does."""

_logger = logging.getLogger(__name__)


def ignore_hangups() -> None:
    """From now on SIGHUP ends neither this process nor those that it starts."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


@contextmanager
def on_hangup(reread: Callable[[], None]) -> Iterator[None]:
    """Calls `reread` on every SIGHUP. Once the context is left, they are ignored."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, reread)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
        ignore_hangups()


async def run_until_signalled(*stages: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Waits for SIGTERM or SIGINT, then goes through the stages of the end, one after the other.

    A further signal cancels the stage that runs, and the next one begins. Each must stop at once
    when cancelled, as `RpcServer.drain` does. Runs in the main thread. Cancelling the wait itself
    ends nothing.
    """
    loop = asyncio.get_running_loop()
    received: asyncio.Queue[signal.Signals] = asyncio.Queue()
    for number in SIGNALS:
        loop.add_signal_handler(number, received.put_nowait, number)
    try:
        _logger.info("%s: ending; once more hurries it", (await received.get()).name)
        for stage in stages:
            await _unless_signalled(received, asyncio.create_task(stage()))
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)


async def _unless_signalled(
    received: asyncio.Queue[signal.Signals], stage: asyncio.Task[None]
) -> None:
    again = asyncio.create_task(received.get())
    again.add_done_callback(lambda _: stage.cancel())
    try:
        await asyncio.wait({stage})
    finally:
        again.cancel()
    if not stage.cancelled():
        stage.result()
