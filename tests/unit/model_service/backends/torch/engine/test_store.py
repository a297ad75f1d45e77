"""The key-value store: what a lease sees is what its tokens are, and no memory is lost."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_service.backends.torch.engine.buffers import KVLayout, LayerShape, Span
from model_service.backends.torch.engine.engine import Distribution, TokenIds
from model_service.backends.torch.engine.lease import StoreLease
from model_service.backends.torch.engine.store import KVStore
from specfuse.errors import Overloaded

LAYOUT = KVLayout((LayerShape(1, 1, 1), LayerShape(2, 1, 2)), torch.float32, torch.device("cpu"))
FOLLOWING = Distribution(torch.zeros(4), 0, 0.0)


def store(tokens: int = 100_000) -> KVStore:
    return KVStore(LAYOUT, tokens * LAYOUT.bytes_per_token, lambda _bytes, _contexts: None)


def write(span: Span, ids: TokenIds, position: int) -> None:
    """Fills slots with numbers that tell which token at which position they are of."""
    marks = torch.tensor([1000.0 * (position + i) + token for i, token in enumerate(ids)])
    for keys in (*span.buffer.keys, *span.buffer.values):
        keys[:, span.start : span.stop] = marks[None, :, None]


opened = StoreLease.open


def feed(lease: StoreLease, count: int) -> None:
    """What the engine does: claims, writes, advances."""
    slots, at = lease.claim(), len(lease.ids) - lease.missing
    write(Span(slots.buffer, slots.start, slots.start + count), lease.ids[at : at + count], at)
    lease.advance(count, FOLLOWING)


def feed_all(lease: StoreLease) -> StoreLease:
    if lease.missing:
        feed(lease, lease.missing)
    return lease


def draft(lease: StoreLease, ids: TokenIds, keep: int) -> None:
    lease.begin_draft(len(ids))
    for at, token in enumerate(ids):
        so_far, slots = lease.draft_slots(1)
        assert_holds((so_far,), ids[:at], len(lease.ids))
        write(slots, (token,), len(lease.ids) + at)
        lease.drafted += (token,)
    lease.end_draft(keep, FOLLOWING)


def score(lease: StoreLease, branches: tuple[TokenIds, ...]) -> None:
    slots = lease.scratch(sum(map(len, branches)))
    start = slots.start
    for ids in branches:
        span = Span(slots.buffer, start, start + len(ids))
        write(span, ids, len(lease.ids))
        lease.keep_branch(ids, span, FOLLOWING)
        start += len(ids)


def assert_holds(spans: tuple[Span, ...], ids: TokenIds, position: int = 0) -> None:
    expected = [1000.0 * (position + i) + token for i, token in enumerate(ids)]
    for layer in range(len(LAYOUT.layers)):
        for part in ("keys", "values"):
            seen = [
                number
                for span in spans
                for number in getattr(span.buffer, part)[layer][0, span.start : span.stop, 0]
            ]
            assert [float(number) for number in seen] == expected


def assert_sees_its_context(lease: StoreLease) -> None:
    assert_holds(lease.node.spans, lease.ids[: len(lease.ids) - lease.missing])


def test_a_context_is_found_again() -> None:
    kept = store()
    feed_all(opened(kept, (1, 2, 3))).close()
    lease = opened(kept, (1, 2, 3, 4))
    assert lease.cached == 3
    assert_sees_its_context(feed_all(lease))


def test_contexts_share_their_beginning() -> None:
    kept = store()
    system = tuple(range(50))
    feed_all(opened(kept, (*system, 77, 78))).close()
    other = opened(kept, (*system, 88))
    assert other.cached == 50
    assert_sees_its_context(feed_all(other))
    assert kept.contexts == 2


def test_the_last_token_is_fed_again_if_what_follows_is_not_known() -> None:
    kept = store()
    feed_all(opened(kept, (1, 2, 3))).close()
    lease = opened(kept, (1, 2))
    assert (lease.cached, lease.missing, lease.following) == (1, 1, None)
    assert_sees_its_context(feed_all(lease))
    assert lease.following is not None


def test_a_scored_winner_becomes_context_and_the_losers_go() -> None:
    kept = store()
    lease = feed_all(opened(kept, (1, 2, 3)))
    score(lease, ((5, 6), (7, 8, 9)))
    lease.close()
    with_losers = kept.used_bytes
    grown = opened(kept, (1, 2, 3, 7, 8, 9))
    assert grown.missing == 0
    assert grown.following is not None
    assert_sees_its_context(grown)
    assert len(grown.node.spans) == 1
    assert kept.used_bytes < with_losers


def test_a_draft_lies_behind_its_context_and_stays_there_if_it_wins() -> None:
    kept = store()
    lease = feed_all(opened(kept, (1, 2, 3)))
    draft(lease, (4, 5, 6, 7), keep=3)
    lease.close()
    before = kept.used_bytes
    grown = opened(kept, (1, 2, 3, 4, 5, 6))
    assert (grown.cached, len(grown.node.spans)) == (6, 1)
    assert kept.used_bytes <= before
    assert_sees_its_context(grown)


def test_a_growing_context_stays_in_one_piece_with_little_room_to_spare() -> None:
    kept = store()
    ids: TokenIds = (1,)
    for round_ in range(300):
        lease = feed_all(opened(kept, ids))
        draft(lease, (2, 3, 4), keep=2)
        score(lease, ((5, 6, 7), (8, round_ % 10)))
        lease.close()
        ids += ((2, 3), (5, 6, 7), (8, round_ % 10))[round_ % 3]
        assert len(lease.node.spans) == 1
    needed = len(ids) * LAYOUT.bytes_per_token
    assert kept.used_bytes < 1.5 * needed


def test_a_part_of_a_branch_is_taken_up() -> None:
    kept = store()
    lease = feed_all(opened(kept, (1, 2, 3)))
    score(lease, ((5, 6, 7),))
    lease.close()
    other = opened(kept, (1, 2, 3, 5, 6, 9))
    assert other.cached == 5
    assert_sees_its_context(feed_all(other))


def test_two_that_feed_the_same_share_what_came_first() -> None:
    kept = store()
    first, second = opened(kept, (1, 2, 3, 4)), opened(kept, (1, 2, 3, 5))
    feed(first, 2)
    feed(second, 3)
    feed(first, 2)
    feed(second, 1)
    assert_sees_its_context(first)
    assert_sees_its_context(second)
    assert kept.contexts == 2


def test_least_recently_used_contexts_make_room() -> None:
    kept = store(tokens=400)
    for first in range(10):
        feed_all(opened(kept, (first, *range(60)))).close()
    assert opened(kept, (0, *range(60))).cached == 0
    assert opened(kept, (9, *range(60))).cached == 61
    assert kept.used_bytes <= 400 * LAYOUT.bytes_per_token


def test_what_is_in_use_is_not_forgotten_for_others() -> None:
    kept = store(tokens=200)
    held = feed_all(opened(kept, tuple(range(120))))
    with pytest.raises(Overloaded):
        feed_all(opened(kept, (500, *range(120))))
    assert_sees_its_context(held)
    held.close()
    assert_sees_its_context(feed_all(opened(kept, (500, *range(120)))))


def test_an_abandoned_context_leaves_no_claim() -> None:
    kept = store()
    lease = opened(kept, tuple(range(40)))
    feed(lease, 10)
    lease.close()
    lease.close()
    kept.clear()
    assert kept.used_bytes == 0


TOKENS = st.integers(0, 2)
SHORT = st.lists(TOKENS, min_size=1, max_size=4).map(tuple)


class Session:
    """A random user of the store, one step at a time."""

    def __init__(self, kept: KVStore, ids: TokenIds) -> None:
        self.kept = kept
        self.ids = ids
        self.lease: StoreLease | None = None

    def act(self, choice: int, some: TokenIds, other: TokenIds) -> None:
        try:
            self._act(choice, some, other)
        except Overloaded:
            self.leave()

    def _act(self, choice: int, some: TokenIds, other: TokenIds) -> None:
        if self.lease is None:
            self.lease = opened(self.kept, self.ids)
        elif self.lease.missing:
            feed(self.lease, min(len(some), self.lease.missing))
        elif choice == 0:
            draft(self.lease, some, keep=len(some) - 1)
            self.ids += some
            self.leave()
        elif choice == 1:
            score(self.lease, (some, other))
            self.ids += other
            self.leave()
        else:
            self.leave()
        if self.lease is not None:
            assert_sees_its_context(self.lease)

    def leave(self) -> None:
        if self.lease is not None:
            self.lease.close()
        self.lease = None


@settings(max_examples=150, deadline=None)
@given(
    st.lists(SHORT, min_size=2, max_size=4),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), SHORT, SHORT), max_size=60),
    st.sampled_from([90, 150, 400]),
)
def test_random_sessions_see_their_own_tokens_and_leave_nothing(
    starts: list[TokenIds], acts: list[tuple[int, int, TokenIds, TokenIds]], tokens: int
) -> None:
    kept = store(tokens)
    sessions = [Session(kept, ids) for ids in starts]
    for who, choice, some, other in acts:
        sessions[who % len(sessions)].act(choice, some, other)
        assert kept.used_bytes <= tokens * LAYOUT.bytes_per_token
    for session in sessions:
        session.leave()
    kept.clear()
    assert (kept.used_bytes, kept.contexts) == (0, 0)


@settings(deadline=None)
@given(
    st.integers(40, 200),
    st.lists(
        st.tuples(st.integers(0, 60), st.integers(1, 160), st.integers(1, 60)),
        min_size=1,
        max_size=5,
    ),
)
def test_one_after_the_other_all_that_it_says_it_holds_are_served(
    tokens: int, contexts: list[tuple[int, int, int]]
) -> None:
    kept = store(tokens)
    for number, (common, own, branches) in enumerate(contexts, 1):
        ids = (*range(common), *range(1000 * number, 1000 * number + own))
        if len(ids) > kept.longest_context:
            continue
        lease = feed_all(opened(kept, ids))
        assert_sees_its_context(lease)
        count = min(branches, tokens - kept.longest_context)
        draft(lease, (7,) * count, 0)
        lease.scratch(count)
        lease.close()
