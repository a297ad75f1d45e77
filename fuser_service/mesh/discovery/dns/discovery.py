"""Replicas by a name that has the address of each."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Final

from fuser_service.mesh.discovery.dns.settings import DnsSection
from fuser_service.mesh.discovery.port import Endpoint

_V6: Final = ":"
_logger = logging.getLogger(__name__)

Resolve = Callable[[], Awaitable[tuple[str, ...]]]
"""The addresses that a name has now. Raises OSError if they cannot be found out."""


class NamedEndpoints:
    """The endpoints at the addresses of a name, which is resolved again and again.

    A name that has no addresses for a moment is no news: a headless Service has none while all its
    pods start again, and whether a replica answers shows by itself.
    """

    def __init__(self, section: DnsSection, resolve: Resolve) -> None:
        self._section = section
        self._resolve = resolve
        self._in_trouble = False

    async def watch(self) -> AsyncIterator[tuple[Endpoint, ...]]:
        """Yields the endpoints whenever they have changed."""
        known: tuple[Endpoint, ...] = ()
        while True:
            found = await self._found()
            if found and found != known:
                known = found
                yield known
            await asyncio.sleep(self._section.every_seconds)

    async def _found(self) -> tuple[Endpoint, ...]:
        """The endpoints now, by address; none if that cannot be found out."""
        try:
            addresses = await self._resolve()
        except OSError as error:
            self._tell(f"cannot be resolved: {error.strerror or error}")
            return ()
        if not addresses:
            self._tell("has no addresses")
            return ()
        self._in_trouble = False
        found = sorted({_joined(one, self._section.port) for one in addresses})
        return tuple(map(Endpoint, found))

    def _tell(self, trouble: str) -> None:
        """Logs the trouble once, until it is over."""
        if not self._in_trouble:
            _logger.warning("%s %s; what is known of it stays", self._section.name, trouble)
        self._in_trouble = True


def open_discovery(section: DnsSection) -> NamedEndpoints:
    """The discovery of a member whose replicas have a name."""
    return NamedEndpoints(section, partial(_addresses, section.name))


async def _addresses(name: str) -> tuple[str, ...]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return tuple(str(address[0]) for *_, address in found)


def _joined(address: str, port: int) -> str:
    return f"[{address}]:{port}" if _V6 in address else f"{address}:{port}"
