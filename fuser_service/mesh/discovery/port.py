"""Where a member's replicas are, now and from now on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

Address = str
"""`host:port` of one replica of a member, by which it is known."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One replica of a member.

    `zone` is where it is, empty if that is not known, and `near` says that the fuser is there, too.
    One that is `terminating` still answers those it has begun with, and will soon be gone.
    """

    address: Address
    zone: str = ""
    near: bool = False
    terminating: bool = False


class Discovery(Protocol):
    """Knows a member's replicas. Whether they answer is not its business."""

    def watch(self) -> AsyncIterator[tuple[Endpoint, ...]]:
        """Yields all endpoints as soon as they are known, then all of them after each change.

        No two have the same address. Ends if nothing can change any more. A source that cannot be
        reached means no news: the member keeps what it knows, and what is raised is logged and the
        source watched anew.
        """
