"""A process that serves until it is told to end, and on SIGHUP reads its files again."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
"""What ends a service: the first drains it, the second stops it at once."""

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


async def run_until_signalled(drain: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Waits for SIGTERM or SIGINT, then drains; a second signal cancels the drain.

    `drain` must stop at once when cancelled, as `RpcServer.drain` does. Runs in the main thread.
    Cancelling the wait itself drains nothing.
    """
    loop = asyncio.get_running_loop()
    received: asyncio.Queue[signal.Signals] = asyncio.Queue()
    for number in SIGNALS:
        loop.add_signal_handler(number, received.put_nowait, number)
    try:
        _logger.info("%s: draining; once more stops at once", (await received.get()).name)
        await _unless_signalled(received, asyncio.create_task(drain()))
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)


async def _unless_signalled(
    received: asyncio.Queue[signal.Signals], draining: asyncio.Task[None]
) -> None:
    again = asyncio.create_task(received.get())
    again.add_done_callback(lambda _: draining.cancel())
    try:
        await asyncio.wait({draining})
    finally:
        again.cancel()
    if not draining.cancelled():
        draining.result()
