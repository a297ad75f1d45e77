"""One engine in several processes: what is done with the first is done with all.

A model that is split over processes computes only if all of them run the same forward pass, and
each keeps its own part of every token's keys and values. So every process has an engine with a
store, and what moves the first one's store is repeated, in order, by the engines of the others.
Stores decide by token ids and byte counts alone, so they stay alike; and no distribution has to
travel, as only the first process looks into them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from model_service.backends.torch.engine.engine import (
    Distribution,
    Lease,
    Outcome,
    Rows,
    Step,
    TokenIds,
)
from model_service.backends.torch.engine.packed import PackedEngine
from specfuse.errors import Overloaded, Unavailable

_MOST_MOVES = 256
"""Once there are this many they are sent, though no forward pass follows them yet."""


class Move(Protocol):
    """Something done with a lease. Leases are identified by numbers."""

    def repeat(self, follower: FollowerEngine) -> None:
        """Does the same with the follower's lease."""


@dataclass(frozen=True, slots=True)
class Opening:
    """`Engine.open`."""

    lease: int
    ids: TokenIds

    def repeat(self, follower: FollowerEngine) -> None:
        """Opens the lease."""
        follower.leases[self.lease] = follower.engine.open(self.ids)


@dataclass(frozen=True, slots=True)
class DraftBeginning:
    """`Lease.begin_draft`."""

    lease: int
    capacity: int

    def repeat(self, follower: FollowerEngine) -> None:
        """Begins the draft, or is refused like the first."""
        with suppress(Overloaded):
            follower.leases[self.lease].begin_draft(self.capacity)


@dataclass(frozen=True, slots=True)
class DraftEnding:
    """`Lease.end_draft`; of what follows, it only says whether that is known."""

    lease: int
    keep: int
    following: bool

    def repeat(self, follower: FollowerEngine) -> None:
        """Ends the draft, with a distribution of the same size if one was given."""
        following = follower.any_distribution if self.following else None
        follower.leases[self.lease].end_draft(self.keep, following)


@dataclass(frozen=True, slots=True)
class Closing:
    """`Lease.close`."""

    lease: int

    def repeat(self, follower: FollowerEngine) -> None:
        """Closes the lease."""
        follower.leases.pop(self.lease).close()


@dataclass(frozen=True, slots=True)
class PlainStep:
    """A step whose lease is a number."""

    lease: int
    ingest: int
    draft: TokenIds
    branches: tuple[TokenIds, ...]


@dataclass(frozen=True, slots=True)
class Turn:
    """Moves, and the steps of the forward pass after them, if there are any.

    `used_bytes` is what the first engine's store takes between the moves and the steps.
    """

    moves: tuple[Move, ...]
    steps: tuple[PlainStep, ...]
    used_bytes: int


class Followers(Protocol):
    """The other processes."""

    def send(self, turn: Turn) -> None:
        """Has every one of them repeat a turn, in the order of the calls.

        Raises:
            OSError: one is gone.
        """

    def end(self) -> None:
        """Ends them. Idempotent."""

    def abandon(self) -> None:
        """Ends them at once, whatever they are doing, as they no longer match this process."""


class FollowerEngine:
    """A follower's engine, which repeats what the first one did."""

    def __init__(self, engine: PackedEngine) -> None:
        self.engine = engine
        self.leases: dict[int, Lease] = {}
        self.any_distribution: Distribution | None = None

    def repeat(self, turn: Turn) -> None:
        """Makes the moves and runs the steps.

        Raises:
            Exception: the engine failed, or is no longer like the first; it is unusable then.
        """
        for move in turn.moves:
            move.repeat(self)
        if self.engine.used_bytes != turn.used_bytes:
            raise RuntimeError("this process's store is no longer like the first one's")
        if turn.steps:
            self._note(self.engine.run([self._step(plain) for plain in turn.steps]))

    def _step(self, plain: PlainStep) -> Step:
        return Step(self.leases[plain.lease], plain.ingest, plain.draft, plain.branches)

    def _note(self, outcomes: Sequence[Outcome]) -> None:
        """Keeps one distribution: every call's first pass comes before its first `end_draft`."""
        for outcome in outcomes:
            if self.any_distribution is None and isinstance(outcome, Rows):
                self.any_distribution = outcome[0].kept()


@dataclass(eq=False, slots=True)
class MirroredLease:
    """A lease whose moves are sent to others."""

    inner: Lease
    number: int
    ids: TokenIds
    _tell: Callable[[Move], None]
    _closed: bool = field(default=False)

    @property
    def cached(self) -> int:
        """How many of its tokens were there when it was opened."""
        return self.inner.cached

    @property
    def missing(self) -> int:
        """How many of its tokens are still to be fed."""
        return self.inner.missing

    @property
    def following(self) -> Distribution | None:
        """What follows the context, if it is kept."""
        return self.inner.following

    def begin_draft(self, capacity: int) -> None:
        """Prepares for up to `capacity` tokens after the context."""
        self._tell(DraftBeginning(self.number, capacity))
        self.inner.begin_draft(capacity)

    def end_draft(self, keep: int, following: Distribution | None) -> None:
        """Ends the draft and keeps its first `keep` tokens."""
        self._tell(DraftEnding(self.number, keep, following is not None))
        self.inner.end_draft(keep, following)

    def close(self) -> None:
        """Lets go of everything. Idempotent."""
        if not self._closed:
            self._closed = True
            self._tell(Closing(self.number))
            self.inner.close()


class MirroredEngine:
    """The first process's engine, whose followers do what it does.

    Moves are sent with the next forward pass. If one fails in any process, the others wait in
    the middle of theirs; so all followers are ended then, and every further call fails.
    """

    scores_trees = True
    caches_prefixes = True

    def __init__(self, engine: PackedEngine, followers: Followers) -> None:
        """Takes over the followers: closing the engine ends them."""
        self._engine = engine
        self._followers = followers
        self._moves: list[Move] = []
        self._opened = 0
        self._broken = False

    @property
    def longest_context(self) -> int:
        """What every process's store can hold."""
        return self._engine.longest_context

    def open(self, ids: TokenIds) -> MirroredLease:
        """A lease on the longest cached prefix of the context.

        Raises:
            Unavailable: a process is gone.
        """
        self._refuse_if_broken()
        self._opened += 1
        self._tell(Opening(self._opened, ids))
        return MirroredLease(self._engine.open(ids), self._opened, ids, self._tell)

    def run(self, steps: Sequence[Step]) -> list[Outcome]:
        """Runs the steps in one forward pass of all processes and moves their leases on.

        Raises:
            Unavailable: a process is gone, or the forward pass failed.
        """
        self._refuse_if_broken()
        own = [_own(step.lease) for step in steps]
        self._send(tuple(_plain(lease, step) for lease, step in zip(own, steps, strict=True)))
        self._refuse_if_broken()
        try:
            return self._engine.run(
                [
                    Step(lease.inner, step.ingest, step.draft, step.branches)
                    for lease, step in zip(own, steps, strict=True)
                ]
            )
        except Exception as error:
            self._break()
            raise _gone() from error

    def close(self) -> None:
        """Ends the followers. Idempotent."""
        self._broken = True
        self._followers.end()

    def _tell(self, move: Move) -> None:
        """Called before the move is made, so that only moves already made are sent."""
        if len(self._moves) >= _MOST_MOVES and not self._broken:
            self._send(())
        self._moves.append(move)

    def _send(self, steps: tuple[PlainStep, ...]) -> None:
        turn = Turn(tuple(self._moves), steps, self._engine.used_bytes)
        self._moves.clear()
        try:
            self._followers.send(turn)
        except OSError:
            self._break()

    def _break(self) -> None:
        self._broken = True
        self._followers.abandon()

    def _refuse_if_broken(self) -> None:
        if self._broken:
            raise _gone()


def _own(lease: Lease) -> MirroredLease:
    if not isinstance(lease, MirroredLease):
        raise TypeError("the lease is of another engine")
    return lease


def _plain(lease: MirroredLease, step: Step) -> PlainStep:
    return PlainStep(lease.number, step.ingest, step.draft, step.branches)


def _gone() -> Unavailable:
    return Unavailable(
        "a process of the model failed, and it cannot run without it; the service must be restarted"
    )
