"""What a query tells its caller: one `Started`, a `RoundCommitted` per round, one `Finished`."""

from __future__ import annotations

from dataclasses import dataclass

from fuser_service.core.types import CommittedRound, Departure, FinishReason, MemberName


@dataclass(frozen=True, slots=True)
class Started:
    """The query begins. `members` are in the ensemble's order."""

    ensemble: str
    members: tuple[MemberName, ...]
    session_id: str


@dataclass(frozen=True, slots=True)
class RoundCommitted:
    """A segment is committed. Seconds are wall clock; 0 where nobody drafted, or nobody scored.

    A round that members came back for has two proposing and two scoring phases; both are counted.
    """

    round: CommittedRound
    propose_seconds: float
    score_seconds: float
    total_seconds: float


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer is complete.

    `text` was held back and turned out to be no stop string: it ends the answer. `rounds`,
    `output_tokens` (in the winners' own tokens) and the calls are of this run only, not of what a
    resumed query brought along; `prompt_tokens` is its context at the start, as the first winner
    counts. `lost` are the members lost to failure or lateness, `absent` those
    that only missed rounds; `discarded_tokens` were drafted, each in its proposer's own tokens, and
    not committed. `passes` are those through models that the answers took: one for each token
    drafted, ends included, and one for each call to score.
    """

    reason: FinishReason
    text: str
    rounds: int
    output_tokens: int
    propose_made: int
    propose_avoided: int
    score_made: int
    score_avoided: int
    lost: tuple[Departure, ...]
    total_seconds: float
    discarded_tokens: int = 0
    absent: tuple[MemberName, ...] = ()
    prompt_tokens: int = 0
    passes: int = 0

    @property
    def degraded(self) -> bool:
        """Whether any round did without a member that it should have had."""
        return bool(self.lost or self.absent)


Event = Started | RoundCommitted | Finished
