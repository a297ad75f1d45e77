"""Where a member's replicas are, now and from now on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

Endpoint = str
"""`host:port` of one replica of a member."""


class Discovery(Protocol):
    """Knows a member's replicas. Whether they answer is not its business."""

    def watch(self) -> AsyncIterator[tuple[Endpoint, ...]]:
        """Yields all endpoints as soon as they are known, then all of them after each change.

        Ends if nothing can change any more. A source that cannot be reached means no news: the
        member keeps what it knows, and what is raised is logged and the source watched anew.
        """
