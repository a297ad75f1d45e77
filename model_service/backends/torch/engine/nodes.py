"""The tree of token prefixes: its nodes, and the branches that may become context."""

from __future__ import annotations

from dataclasses import dataclass

from model_service.backends.torch.engine.buffers import Span
from model_service.backends.torch.engine.engine import Distribution, TokenIds


@dataclass(frozen=True, slots=True)
class Branch:
    """Tokens after a node that may become context, and what follows all of them, if known."""

    ids: TokenIds
    span: Span
    following: Distribution | None


class Node:
    """Tokens that follow the parent's. `spans` is where the whole path from the root lies."""

    __slots__ = (
        "branches",
        "children",
        "following",
        "ids",
        "leases",
        "length",
        "parent",
        "spans",
    )

    def __init__(self, parent: Node | None, ids: TokenIds, spans: tuple[Span, ...]) -> None:
        self.parent = parent
        self.ids = ids
        self.spans = spans
        self.length: int = len(ids) + (parent.length if parent else 0)
        self.children: dict[int, Node] = {}
        self.branches: list[Branch] = []
        self.following: Distribution | None = None
        self.leases = 0

    @property
    def forgettable(self) -> bool:
        """Whether nothing depends on it."""
        return not self.leases and not self.children
