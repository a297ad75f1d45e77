"""What the fusion needs of the world: members to ask, and an observer to tell."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Literal, Protocol

from fuser_service.core.commit import AvoidedBecause
from fuser_service.core.types import (
    Candidate,
    Context,
    Departure,
    MemberName,
    Proposal,
    Sampling,
    Score,
)
from specfuse.deadline import Deadline

Rpc = Literal["propose", "score"]
Outcome = Literal["ok", "failed", "rejected", "overloaded", "late", "cancelled"]
"""How a call to a member ended. `rejected`: the member finds the request itself wrong."""
Phase = Literal["propose", "score", "total"]


class Member(Protocol):
    """One model of an ensemble, wherever and in however many replicas it runs."""

    @property
    def name(self) -> MemberName:
        """Its name in the ensemble."""

    @property
    def ready(self) -> bool:
        """Whether some replica is thought to be able to answer."""

    @property
    def awake(self) -> bool:
        """Whether some replica says that it serves, however calls to it fared."""

    def when_changed(self, told: Callable[[], None]) -> None:
        """Has `told` be called, from now on, whenever `awake` may have changed."""

    def join(self, session_id: str) -> Participant:
        """Takes part in a query, whose name for caches is `session_id`."""


class Participant(Protocol):
    """A member in one query, for as long as there is the query: all its answers are of one kind.

    Both calls raise only `specfuse.errors.SpecFuseError`s (and let cancellation through).
    """

    async def propose(
        self,
        context: Context,
        *,
        max_tokens: int,
        sampling: Sampling,
        stop: Sequence[str],
        deadline: Deadline,
    ) -> Proposal:
        """The member's next segment, at most `max_tokens` of its own tokens."""

    async def score(
        self, context: Context, candidates: Sequence[Candidate], *, deadline: Deadline
    ) -> tuple[Score, ...]:
        """The member's score of each candidate, in order."""

    def leave(self) -> None:
        """The query is over, and asks nothing any more. No call of it is in flight."""


class FusionObserver(Protocol):
    """Told what happens in a query. Called on the event loop; must be fast and must not raise."""

    def call_ended(self, member: MemberName, rpc: Rpc, outcome: Outcome, seconds: float) -> None:
        """A call to a member ended."""

    def calls_avoided(self, member: MemberName, because: AvoidedBecause, calls: int) -> None:
        """A round needed `calls` calls fewer of a member than the full two."""

    def passes_made(self, ensemble: str, member: MemberName, passes: int) -> None:
        """A member's model made so many passes: one a token drafted, and one a call to score."""

    def phase_ended(self, ensemble: str, phase: Phase, seconds: float) -> None:
        """A phase of a round, or the whole round, ended."""

    def straggler_waited(self, ensemble: str, seconds: float) -> None:
        """Beyond the quorum's answer, a round waited this long for late members."""

    def segment_won(self, ensemble: str, member: MemberName) -> None:
        """A member's proposal was committed."""

    def tokens_discarded(self, ensemble: str, member: MemberName, tokens: int) -> None:
        """A member drafted tokens that were not committed."""

    def drafted_ahead(self, ensemble: str, *, used: bool) -> None:
        """A draft was asked for ahead, and was what the next round needed, or was given up."""

    def hold_began(self, ensemble: str) -> None:
        """A query waits for members of the ensemble to wake."""

    def hold_ended(self, ensemble: str) -> None:
        """A query waits for members of the ensemble no longer. Every hold that began ends."""

    def query_began(self, ensemble: str) -> None:
        """There is a query more for the ensemble: it runs, or waits to."""

    def query_ended(self, ensemble: str) -> None:
        """There is a query less for the ensemble. Every query that began ends."""

    def session_began(self, member: MemberName) -> None:
        """A query counts on a member from now on."""

    def session_ended(self, member: MemberName) -> None:
        """A query counts on a member no longer. Every session that began ends."""

    def member_left(self, ensemble: str, departure: Departure) -> None:
        """A member left a query."""

    def members_recalled(self, ensemble: str, members: Collection[MemberName]) -> None:
        """Members that the exit policy had sent away came back for a committed round."""

    def active_members(self, ensemble: str, members: int) -> None:
        """A round began with this many members."""
