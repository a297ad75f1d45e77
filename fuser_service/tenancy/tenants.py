"""Whoever may ask: who a caller is, and whether its request is let in now.

Doors need no more than `Tenants.caller`, with what a call shows as `Credentials`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime

from fuser_service.tenancy.admission import Admission
from fuser_service.tenancy.caller import ANONYMOUS, Caller, Credentials, Team
from fuser_service.tenancy.directory import Directory
from fuser_service.tenancy.keys import Key
from specfuse.deadline import Deadline


def _now() -> datetime:
    return datetime.now(UTC)


def everybody() -> Directory:
    """Lets everybody in, as the team of anonymous callers."""
    return Directory(teams={}, anonymous=Team(ANONYMOUS))


class Tenants:
    """Knows callers by a directory whose keys may change, and admits their requests."""

    def __init__(
        self,
        admission: Admission,
        directory: Directory,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self._admission = admission
        self._directory = directory
        self._now = now

    def take_keys(self, keys: Iterable[Key]) -> None:
        """Knows callers by these keys from now on; what is under way goes on."""
        self._directory = self._directory.with_keys(keys)

    def caller(self, credentials: Credentials) -> Caller:
        """Who shows these credentials.

        Raises:
            Unauthenticated: nobody who is known here.
        """
        return self._directory.caller(credentials, self._now())

    def admitted(
        self, caller: Caller, tokens: Callable[[], int]
    ) -> AbstractAsyncContextManager[None]:
        """As `Admission.admitted`, for the caller's team."""
        return self._admission.admitted(caller.team, tokens)

    def place(self, caller: Caller, deadline: Deadline) -> AbstractAsyncContextManager[None]:
        """As `Admission.place`, for the caller's team."""
        return self._admission.place(caller.team, deadline)
