"""Keys and values found by their tokens: a tree of token prefixes in a byte budget.

A context is a path from the root. Every node holds the tokens that follow its parent's, and where
the keys and values of the whole path lie: spans of buffers. Paths share what they have in common.
A growing context continues in its last span's buffer while there is room behind it, so that a
context of any length lies in few spans and is never copied.

What may become context hangs on a node as branches: the model's own draft, and the candidates it
scored. When a later context continues with one of them, that branch's keys and values are moved
behind the context's, and the other branches go. So committing a winner needs no call and no forward
pass.

Nodes that no lease holds are forgotten in the order of their last use when room is needed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

from model_service.backends.torch.engine.buffers import (
    KVBuffer,
    KVLayout,
    Span,
    chained,
    without_first,
)
from model_service.backends.torch.engine.engine import Distribution, TokenIds
from model_service.backends.torch.engine.nodes import Branch, Node
from specfuse.errors import Overloaded

_ROOM_FOR_BRANCHES = 256
"""Tokens of candidates and drafts that are not context yet; a quarter of a small store."""
_LEAST_SLACK = 64
_MOST_SLACK = 512


class KVStore:
    """The tree, and the memory it may use. Used by one thread."""

    def __init__(
        self, layout: KVLayout, budget_bytes: int, on_change: Callable[[int, int], None]
    ) -> None:
        """`on_change` is told the bytes used and the number of contexts after every change."""
        self._layout = layout
        self._budget = budget_bytes
        self._on_change = on_change
        self._root = Node(None, (), ())
        self._by_use: OrderedDict[Node, None] = OrderedDict()
        self._used = 0
        self._leaves = 0
        self._capacity = budget_bytes // layout.bytes_per_token
        self._reserve = min(_ROOM_FOR_BRANCHES, self._capacity // 4)

    @property
    def used_bytes(self) -> int:
        """Bytes of all buffers, whether cached or held by leases, and of kept distributions."""
        return self._used

    @property
    def longest_context(self) -> int:
        """The most tokens of a context that there is room for if there is no other context."""
        return self._capacity - self._reserve

    @property
    def contexts(self) -> int:
        """How many different contexts are cached: the leaves of the tree."""
        return self._leaves

    def longest_prefix(self, ids: TokenIds) -> Node:
        """The node where the longest cached prefix of `ids` ends.

        What follows the whole context must be known or be computed, so its last token counts as
        cached only if its distribution is kept.
        """
        node = self._find(ids)
        if node.length == len(ids) and node.following is None:
            node = self._find(ids[:-1])
        if self._crowds_out(node, len(ids) - node.length):
            self._forget_path(node)  # or the context, fed anew, would join it again
            node = self._root
        return node

    def _crowds_out(self, node: Node, missing: int) -> bool:
        """Whether holding on to a prefix leaves no room for the rest of a context.

        A buffer stays as long as anything in it is held, even if that is only the greeting that
        begins this prompt and was cached as part of a very long one.
        """
        if not node.spans:
            return False
        held = sum(buffer.capacity for buffer in {span.buffer for span in node.spans})
        last = node.spans[-1]
        if last.stop == last.buffer.used and last.stop + missing <= last.buffer.capacity:
            missing = 0  # there is room behind it
        return held + missing + self._reserve > self._capacity

    def _forget_path(self, node: Node) -> None:
        """Forgets a path and all that continues it, except what leases hold."""
        while node.parent is not None and node.parent is not self._root:
            node = node.parent
        tree = [node]
        for each in tree:
            tree += each.children.values()
        for each in reversed(tree):
            if each.parent is not None and each.forgettable:
                self._forget(each.parent, each)

    def clear(self) -> None:
        """Forgets everything that no lease holds."""
        while self._forget_one():
            pass
        self._changed()

    def _find(self, ids: TokenIds) -> Node:
        node = self._walk(self._root, ids)
        node = self._take_up_branch(node, ids[node.length :])
        self._touch(node)
        return node

    def _walk(self, node: Node, ids: TokenIds) -> Node:
        """The deepest node that begins the tokens after `node`; splits a node to end there."""
        at = 0
        while at < len(ids):
            child = node.children.get(ids[at])
            if child is None:
                break
            common = _common(child.ids, ids[at : at + len(child.ids)])
            if common < len(child.ids):
                return self._split(node, child, common)
            at += common
            node = child
        return node

    def _split(self, parent: Node, node: Node, at: int) -> Node:
        """Cuts a node in two; the new first part is returned. The node itself stays the end."""
        last = node.spans[-1]
        start = last.stop - len(node.ids)
        head = Node(
            parent, node.ids[:at], chained(parent.spans, Span(last.buffer, start, start + at))
        )
        last.buffer.owners += 1
        parent.children[node.ids[0]] = head
        head.children[node.ids[at]] = node
        node.parent, node.ids = head, node.ids[at:]
        self._by_use[head] = None
        return head

    def _touch(self, node: Node) -> None:
        """Marks a path as just used, its beginning last, so that ends are forgotten first."""
        step: Node | None = node
        while step is not None and step.parent is not None:
            self._by_use.move_to_end(step)
            step = step.parent

    def _take_up_branch(self, node: Node, rest: TokenIds) -> Node:
        """Makes context of the branch that `rest` begins with, as far as it goes; drops others."""
        branch = max(node.branches, key=lambda b: _common(b.ids, rest), default=None)
        count = _common(branch.ids, rest) if branch else 0
        if branch is None or count == 0:
            return node
        source = Span(branch.span.buffer, branch.span.start, branch.span.start + count)
        source.buffer.owners += 1
        self.drop_branches(node)
        try:
            child = self._moved_behind(node, rest[:count], source)
        except Overloaded:
            return node
        finally:
            self.release(source.buffer)
        if count == len(branch.ids) and branch.following is not None:
            child.leases += 1
            self.keep_following(child, branch.following)
            child.leases -= 1
        return child

    def _moved_behind(self, node: Node, ids: TokenIds, source: Span) -> Node:
        node.leases += 1  # so that making room does not forget it
        try:
            slots = self.claim(node, len(ids))
        finally:
            node.leases -= 1
        if slots != source:
            slots.buffer.copy_from(source, slots.start)
        child = self.attach(node, ids, slots)
        self.release(slots.buffer)
        return child

    def attach(self, parent: Node, ids: TokenIds, span: Span) -> Node:
        """Turns the tokens in the span into context; they must not be in the tree yet."""
        node = Node(parent, ids, chained(parent.spans, span))
        span.buffer.owners += 1
        self._leaves += parent is self._root or bool(parent.children)
        parent.children[ids[0]] = node
        self._by_use[node] = None
        self._touch(node)
        return node

    def descend(self, node: Node, ids: TokenIds, span: Span) -> Node:
        """The node `ids` further down: what the tree has of them, and the rest from the span."""
        found = self._walk(node, ids)
        known = found.length - node.length
        if known == len(ids):
            return found
        return self.attach(found, ids[known:], Span(span.buffer, span.start + known, span.stop))

    def add_branch(self, node: Node, branch: Branch) -> bool:
        """Hangs a branch on a node, unless the same tokens hang there and as much is known."""
        for known in node.branches:
            if known.ids == branch.ids:
                if known.following is not None or branch.following is None:
                    return False
                self._drop_branch(node, known)
                break
        if not self._make_room_to_spare(_nbytes(branch.following)):
            branch = replace(branch, following=None)
        node.branches.append(branch)
        branch.span.buffer.owners += 1
        self._used += _nbytes(branch.following)
        return True

    def drop_branches(self, node: Node) -> None:
        """Lets all of a node's branches go."""
        for branch in tuple(node.branches):
            self._drop_branch(node, branch)

    def _drop_branch(self, node: Node, branch: Branch) -> None:
        node.branches.remove(branch)
        self._used -= _nbytes(branch.following)
        self.give_back(branch.span, 0)

    def keep_following(self, node: Node, following: Distribution | None) -> None:
        """Keeps what follows a node if there is room. Its parent's goes: contexts only grow."""
        parent = node.parent
        if parent is not None and not parent.leases:
            self._set_following(parent, None)
        kept = following if self._make_room_to_spare(_nbytes(following)) else None
        self._set_following(node, kept)

    def _set_following(self, node: Node, following: Distribution | None) -> None:
        self._used += _nbytes(following) - _nbytes(node.following)
        node.following = following

    def claim(self, node: Node, count: int) -> Span:
        """Slots for `count` tokens after a node: behind its own if there can be room, or elsewhere.

        The caller owns the buffer too, until it calls `release`.

        Raises:
            Overloaded: there is no memory for them.
        """
        slots = self.claim_behind(node, count)
        if slots is None and self._move_to_larger(node, count):
            slots = self.claim_behind(node, count)
        if slots is not None:
            return slots
        buffer = self.allocate(count, _slack(node.length + count))
        buffer.used = count
        return Span(buffer, 0, count)

    def claim_behind(self, node: Node, count: int) -> Span | None:
        """Slots that adjoin a node's own, if there is room. The caller owns the buffer too."""
        if not node.spans:
            return None
        last = node.spans[-1]
        if last.stop != last.buffer.used or last.stop + count > last.buffer.capacity:
            return None
        last.buffer.used += count
        last.buffer.owners += 1
        return Span(last.buffer, last.stop, last.stop + count)

    def give_back(self, slots: Span, used: int) -> None:
        """Gives up claimed slots except the first `used`, and the ownership of their buffer."""
        if slots.buffer.used == slots.stop:
            slots.buffer.used = slots.start + used
        self.release(slots.buffer)

    def _move_to_larger(self, node: Node, count: int) -> bool:
        """Moves what only this path needs to a buffer with room for `count` more, if there is any.

        So a context that grows stays in one piece, at a few copies of each token over its life.
        """
        own = self._own_part(node)
        if not own or node.spans[-1].buffer.used != node.spans[-1].stop:
            return False
        above = own[-1].parent or self._root
        length = node.length - above.length
        try:
            buffer = self.allocate(length + count, _slack(node.length))
        except Overloaded:
            return False
        for source in without_first(node.spans, above.length):
            buffer.copy_from(source, buffer.used)
            buffer.used += source.length
        for moved in own:
            self.release(moved.spans[-1].buffer)
            buffer.owners += 1
            moved.spans = (*above.spans, Span(buffer, 0, moved.length - above.length))
        self.release(buffer)
        return True

    def _own_part(self, node: Node) -> list[Node]:
        """The end of a path that no other path shares, from its last node upwards."""
        own: list[Node] = []
        step: Node | None = node
        while step is not None and step.parent is not None and len(step.children) <= bool(own):
            own.append(step)
            step = step.parent
        return own

    def allocate(self, count: int, slack: int = 0) -> KVBuffer:
        """A buffer for `count` tokens, and `slack` more if possible, owned by the caller.

        Raises:
            Overloaded: what is in use leaves no room.
        """
        per_token = self._layout.bytes_per_token
        if not self._make_room_to_spare((count + slack) * per_token):
            slack = 0
            if not self._make_room(count * per_token):
                raise Overloaded(
                    f"{count} tokens need {count * per_token} bytes of key-value cache; "
                    f"other calls hold too much of the {self._budget}"
                )
        buffer = KVBuffer(self._layout, count + slack)
        buffer.owners = 1
        self._used += buffer.nbytes
        self._changed()
        return buffer

    def release(self, buffer: KVBuffer) -> None:
        """Gives up one ownership of a buffer."""
        buffer.owners -= 1
        if buffer.owners == 0:
            self._used -= buffer.nbytes
            self._changed()

    def _make_room_to_spare(self, nbytes: int) -> bool:
        """Makes room for something optional: only if candidates and drafts still fit."""
        return self._make_room(nbytes + self._reserve * self._layout.bytes_per_token)

    def _make_room(self, nbytes: int) -> bool:
        if nbytes > self._budget:
            return False
        while self._used + nbytes > self._budget:
            if not self._forget_one():
                return False
        return True

    def _forget_one(self) -> bool:
        for node in self._by_use:
            if node.parent is not None and node.forgettable:
                self._forget(node.parent, node)
                return True
        return False

    def _forget(self, parent: Node, node: Node) -> None:
        self.drop_branches(node)
        self._set_following(node, None)
        del parent.children[node.ids[0]]
        del self._by_use[node]
        self._leaves -= parent is self._root or bool(parent.children)
        last = node.spans[-1]
        self.give_back(Span(last.buffer, last.stop - len(node.ids), last.stop), 0)

    def _changed(self) -> None:
        self._on_change(self._used, self._leaves)


def _slack(length: int) -> int:
    """How many slots more a context of this length gets, to grow into."""
    return min(max(_LEAST_SLACK, length // 4), _MOST_SLACK)


def _common(first: TokenIds, second: TokenIds) -> int:
    """The length of the common beginning."""
    length = min(len(first), len(second))
    if first[:length] == second[:length]:
        return length
    return next(i for i in range(length) if first[i] != second[i])


def _nbytes(following: Distribution | None) -> int:
    return following.logprobs.nbytes if following is not None else 0
