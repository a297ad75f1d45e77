"""Watches endpoints: once, or until a signal comes."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.live import Live

from specfuse.cli.complaints import FAILED
from specfuse.cli.top.board import board_of
from specfuse.cli.top.fetching import Unreachable, scrape
from specfuse.cli.top.history import History
from specfuse.cli.top.scrapes import NotMetrics
from specfuse.cli.top.screen import screen_of
from specfuse.cli.top.targets import Target
from specfuse.errors import InvalidArgument, Unavailable

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PIPE_WIDTH: Final = 160
"""Where there is no terminal, tables are as wide as they need to be."""


def watch(targets: Sequence[Target], interval: float, *, once: bool) -> int:
    """Shows the mesh, until a signal comes; or once, after one interval of so many seconds.

    It is once, too, where stdout is no terminal. Returns the exit code.

    Raises:
        InvalidArgument: at the beginning, something else is at an address.
        Unavailable: it is to be once, and nobody answers.
    """
    console = Console(highlight=False)
    if not sys.stdout.isatty() or console.is_dumb_terminal:
        once, console.width = True, _PIPE_WIDTH
    if once:
        return asyncio.run(_once(targets, interval, console))
    return asyncio.run(_live(targets, interval, console))


async def _once(targets: Sequence[Target], interval: float, console: Console) -> int:
    histories = await _first_look(targets)
    if all(one.trouble for one in histories):
        troubles = "; ".join(board_of(histories).troubles)
        raise Unavailable(f"{troubles}. specfuse up shows where the metrics of its mesh are")
    await asyncio.sleep(interval)
    histories = await asyncio.gather(*map(_look, histories))
    console.print(screen_of(board_of(histories)))
    return 0 if all(one.interval for one in histories) else FAILED


async def _live(targets: Sequence[Target], interval: float, console: Console) -> int:
    showing = asyncio.create_task(_shown(targets, interval, console))
    for number in _SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, showing.cancel)
    await asyncio.wait((showing,))
    if not showing.cancelled():
        showing.result()  # raises: it does not end by itself
    return 0


async def _shown(targets: Sequence[Target], interval: float, console: Console) -> None:
    """Shows the endpoints, each read on its own, so that nobody waits for one that hangs."""
    now = await _first_look(targets)
    with Live(screen_of(board_of(now)), console=console) as live:

        async def follow(place: int) -> None:
            while True:
                await asyncio.sleep(interval)
                now[place] = await _look(now[place])
                live.update(screen_of(board_of(now)))

        await asyncio.gather(*(follow(place) for place in range(len(now))))


async def _first_look(targets: Sequence[Target]) -> list[History]:
    """The endpoints as they are at first, without optional ones that are not there.

    Raises:
        InvalidArgument: something else is at an address.
    """

    async def look(target: Target) -> History | None:
        history = History(target)
        try:
            return history.seen(await scrape(target))
        except Unreachable as error:
            return None if target.optional else history.lost(f"is down: {error}")
        except NotMetrics as error:
            if target.optional:
                return None
            raise InvalidArgument(target.option, f"{target.address}: {error}") from error

    looks = await asyncio.gather(*map(look, targets))
    return [history for history in looks if history is not None]


async def _look(history: History) -> History:
    """The endpoint read once more."""
    try:
        return history.seen(await scrape(history.target))
    except Unreachable as error:
        return history.lost(f"is down: {error}")
    except NotMetrics as error:
        return history.lost(f"is something else now: {error}")
