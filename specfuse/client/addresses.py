"""Where fusers can be asked. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from specfuse.errors import (
    DeadlineExceeded,
    Misconfigured,
    Overloaded,
    SpecFuseError,
    Unavailable,
)

_AGAINST_THE_FUSER: Final = (Unavailable, Overloaded, DeadlineExceeded)
"""A deadline too: connecting to a host that is gone takes longer than most callers wait."""


class Addresses:
    """Addresses of fusers that are all alike. Calls go to the current one until it fails.

    Threads may share it: the worst that comes of a race is a call to the fuser that failed.
    """

    def __init__(self, given: str | Sequence[str]) -> None:
        """One address, or several; the first is the current one.

        Raises:
            Misconfigured: there is none.
        """
        self._all = (given,) if isinstance(given, str) else tuple(dict.fromkeys(given))
        if not self._all:
            raise Misconfigured("target: empty; give the service's address as host:port")
        self._current = 0

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    @property
    def current(self) -> str:
        """The address to call."""
        return self._all[self._current]

    def failed(self, address: str, failure: SpecFuseError) -> None:
        """Makes the next address the current one, if the failure speaks against this one.

        Whoever else was calling it may have moved on already; then nothing changes.
        """
        if isinstance(failure, _AGAINST_THE_FUSER) and address == self.current:
            self._current = (self._current + 1) % len(self._all)
