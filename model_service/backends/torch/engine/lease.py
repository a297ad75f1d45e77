"""A call's hold on a cached context, which grows until it is the call's whole context."""

from __future__ import annotations

from typing import Self

from model_service.backends.torch.engine.buffers import Span
from model_service.backends.torch.engine.engine import Distribution, TokenIds
from model_service.backends.torch.engine.nodes import Branch, Node
from model_service.backends.torch.engine.store import KVStore


class StoreLease:
    """A call's hold on a path, which grows until it is the call's whole context."""

    @classmethod
    def open(cls, store: KVStore, ids: TokenIds) -> Self:
        """A lease on the longest cached prefix of `ids`."""
        return cls(store, ids, store.longest_prefix(ids))

    def __init__(self, store: KVStore, ids: TokenIds, node: Node) -> None:
        self.ids = ids
        self.cached = node.length
        self.node = node
        node.leases += 1
        self._store = store
        self._claimed: Span | None = None
        self._scratch: Span | None = None
        self._closed = False
        self.drafted: TokenIds = ()

    @property
    def missing(self) -> int:
        """How many tokens of the context are still to be fed."""
        return len(self.ids) - self.node.length

    @property
    def following(self) -> Distribution | None:
        """What follows the context; None until nothing is missing."""
        return None if self.missing else self.node.following

    def claim(self) -> Span:
        """Slots for all missing tokens. The same slots if called again without an `advance`."""
        if self._claimed is None:
            self._claimed = self._store.claim(self.node, self.missing)
        return self._claimed

    def advance(self, count: int, following: Distribution) -> None:
        """The next `count` tokens are in the first claimed slots, and `following` follows them."""
        slots = self.claim()
        fed = self.ids[self.node.length : self.node.length + count]
        middle = slots.start + count
        node = self._store.descend(self.node, fed, Span(slots.buffer, slots.start, middle))
        self._hold(node)
        self._claimed = Span(slots.buffer, middle, slots.stop)
        if not self.missing:
            self._drop_claim()
            self._store.keep_following(node, following.kept())

    def scratch(self, count: int) -> Span:
        """Slots for `count` tokens that are not context, in place of those given before."""
        self._drop_scratch()
        self._scratch = Span(self._store.allocate(count), 0, count)
        return self._scratch

    def draft_slots(self, count: int) -> tuple[Span, Span]:
        """Where the draft so far lies, and the slots for its next `count` tokens."""
        if self._scratch is None:
            raise RuntimeError("a draft must begin before it goes on")
        buffer, start = self._scratch.buffer, self._scratch.start
        middle = start + len(self.drafted)
        return Span(buffer, start, middle), Span(buffer, middle, middle + count)

    def begin_draft(self, capacity: int) -> None:
        """Prepares for up to `capacity` tokens after the context, behind it if there is room."""
        self._drop_scratch()
        self.drafted = ()
        if capacity:
            behind = self._store.claim_behind(self.node, capacity)
            self._scratch = behind or Span(self._store.allocate(capacity), 0, capacity)

    def end_draft(self, keep: int, following: Distribution | None) -> None:
        """Ends the draft and keeps its first `keep` tokens as a branch."""
        slots, self._scratch = self._scratch, None
        if slots is None:
            return
        span = Span(slots.buffer, slots.start, slots.start + keep)
        branch = Branch(self.drafted[:keep], span, following.kept() if following else None)
        kept = keep > 0 and self._store.add_branch(self.node, branch)
        self._store.give_back(slots, keep if kept else 0)
        self.drafted = ()

    def keep_branch(self, ids: TokenIds, span: Span, following: Distribution) -> None:
        """Keeps tokens that were scored after the context."""
        self._store.add_branch(self.node, Branch(ids, span, following.kept()))

    def close(self) -> None:
        """Lets go of everything. Idempotent."""
        self._drop_scratch()
        self._drop_claim()
        if not self._closed:
            self.node.leases -= 1
        self._closed = True

    def _hold(self, node: Node) -> None:
        node.leases += 1
        self.node.leases -= 1
        self.node = node

    def _drop_scratch(self) -> None:
        if self._scratch is not None:
            self._store.give_back(self._scratch, 0)
            self._scratch = None

    def _drop_claim(self) -> None:
        if self._claimed is not None:
            self._store.give_back(self._claimed, 0)
            self._claimed = None
