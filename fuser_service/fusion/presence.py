"""Which members a query counts on, told to an observer as it changes."""

from __future__ import annotations

from collections.abc import Collection
from types import TracebackType
from typing import Self

from fuser_service.core.types import MemberName
from fuser_service.fusion.ports import FusionObserver


class Presence:
    """A context manager: once it is left, however that happens, the query counts on nobody."""

    def __init__(self, observer: FusionObserver) -> None:
        self._observer = observer
        self._members: frozenset[MemberName] = frozenset()

    def of(self, members: Collection[MemberName]) -> None:
        """The query counts on just these members from now on."""
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
        self.of(())
