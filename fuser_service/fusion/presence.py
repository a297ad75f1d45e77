"""That there is a query, and which members it counts on, told to an observer as it changes."""

from __future__ import annotations

from collections.abc import Collection
from types import TracebackType
from typing import Self

from fuser_service.core.types import MemberName
from fuser_service.fusion.ports import FusionObserver


class Presence:
    """A query of an ensemble, while the context lasts. Once it is left, it counts on nobody."""

    def __init__(self, observer: FusionObserver, ensemble: str) -> None:
        self._observer = observer
        self._ensemble = ensemble
        self._members: frozenset[MemberName] = frozenset()

    def of(self, members: Collection[MemberName]) -> None:
        """The query counts on just these members from now on."""
        before, self._members = self._members, frozenset(members)
        for member in self._members - before:
            self._observer.session_began(member)
        for member in before - self._members:
            self._observer.session_ended(member)

    def __enter__(self) -> Self:
        self._observer.query_began(self._ensemble)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.of(())
        self._observer.query_ended(self._ensemble)
