"""That there is a query, and which members it counts on, told to an observer as it changes."""

from __future__ import annotations

from collections.abc import Collection
from types import TracebackType
from typing import Self

from fuser_service.core.types import MemberName
from fuser_service.fusion.ports import FusionObserver


class Presence:
    """A query of an ensemble: there is one from when it first counts on members until it is left.

    It is one query however often it waits, and for what. To leave it once more changes nothing.
    """

    def __init__(self, observer: FusionObserver, ensemble: str) -> None:
        self._observer = observer
        self._ensemble = ensemble
        self._members: frozenset[MemberName] = frozenset()
        self._began = False

    def of(self, members: Collection[MemberName]) -> None:
        """The query counts on just these members from now on."""
        if not self._began:
            self._began = True
            self._observer.query_began(self._ensemble)
        before, self._members = self._members, frozenset(members)
        for member in self._members - before:
            self._observer.session_began(member)
        for member in before - self._members:
            self._observer.session_ended(member)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._began:
            self.of(())
            self._began = False
            self._observer.query_ended(self._ensemble)
