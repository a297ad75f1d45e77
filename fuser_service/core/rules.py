"""The settings of one query, resolved: what the ensemble says, with the request's overrides."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from fuser_service.core.types import MemberName


class Statistic(Enum):
    """Which number stands for a verifier's opinion of a candidate."""

    GEOMETRIC = "geometric"
    MEAN_PROBABILITY = "mean_probability"
    PER_BYTE = "per_byte"


class Vote(Enum):
    """What is voted on: whole segments, or the first word in which they differ."""

    SEGMENTS = "segments"
    WORDS = "words"


class Weighting(Enum):
    """How the verifiers' weights develop: equal (SpecFuse), or rewarded for winning (SpecEM)."""

    UNIFORM = "uniform"
    HEDGE = "hedge"


class SelfJudgement(Enum):
    """Whether a model's score of its own candidate counts."""

    INCLUDE = "include"
    DROP = "drop"


class ExitKind(Enum):
    """Which policy decides who drafts no longer, or leaves a query early.

    With `watch`, which needs a vote on words, members stop drafting and go on judging.
    """

    NONE = "none"
    ENTROPY_SOFTMAX = "entropy_softmax"
    WATCH = "watch"


@dataclass(frozen=True, slots=True)
class ExitRules:
    """When members stop drafting or leave a query, and come back.

    With `watch`, members that do not win stop drafting, and leave once they have watched for
    `patience` rounds without an objection. With `entropy_softmax`, `tau0` scales the softmax's
    temperature (dimensionless), `alpha` the threshold alpha / |A|. With recall, leaving too early
    costs little, so `tau0` is low: on the shipped experts 0.01 to 0.03 are alike, from 0.04 losers
    linger, and no answer gets better (see docs/results/exit-tuning.md).
    Nobody leaves before `min_rounds` rounds or below `min_models` members. With `recall`, members
    that left come back for a round whose winner's confidence falls below `recall_ratio` of the mean
    confidence of this query's earlier rounds. It is near 1 because one doubtful word among ten
    tokens moves a segment's confidence little.
    """

    kind: ExitKind = ExitKind.WATCH
    tau0: float = 0.02
    alpha: float = 0.5
    min_rounds: int = 1
    min_models: int = 1
    recall: bool = True
    recall_ratio: float = 0.98
    patience: int = 32


@dataclass(frozen=True, slots=True)
class ObjectionRules:
    """When a member that judges a draft objects to it.

    It must prefer another token by at least `regret` nats, at a place where the entropy of its own
    distribution is at most `entropy` nats: of another mind, and confident.
    """

    regret: float = 2.0
    entropy: float = 1.0


@dataclass(frozen=True, slots=True)
class Rules:
    """What governs the rounds of one query.

    `members` are in the ensemble's order, which breaks ties. `segment_tokens` (at least 1) is the
    most a member drafts a round. While all agree with who drafts alone, that is twice as much after
    each round, up to `stretch_tokens`. `max_tokens` (at least 1) is the most the answer may have,
    counted in the winners' own tokens. `opener` drafts first where the others are to watch: by
    default the first by name. The answer also ends once it has `max_segments` segments or
    `max_bytes` bytes of UTF-8 (at least 1 each): members accept no longer ones. In a vote on words,
    a verifier's say is the `sharpness`-th power of the largest probability that it gives a
    candidate, and a candidate's share is times the `foresight`-th power of how sure the surest
    member is of what it leads to; `statistic` and `self_judgement` are for votes on segments. `eta`
    is hedge's learning rate. `quorum` (at least 1) is the fewest members that must answer for the
    query to go on; members that left early stand by and count. A member that is late in
    `max_misses` rounds leaves the query.
    """

    members: tuple[MemberName, ...]
    max_tokens: int
    segment_tokens: int = 10
    stretch_tokens: int = 0
    stop: tuple[str, ...] = ()
    vote: Vote = Vote.WORDS
    sharpness: float = 8.0
    foresight: float = 32.0
    opener: MemberName | None = None
    objections: ObjectionRules = ObjectionRules()
    statistic: Statistic = Statistic.GEOMETRIC
    weighting: Weighting = Weighting.UNIFORM
    eta: float = 1.0
    self_judgement: SelfJudgement = SelfJudgement.INCLUDE
    fast_finish: bool = False
    exit: ExitRules = ExitRules()
    quorum: int = 1
    max_misses: int = 2
    max_segments: int = 4096
    max_bytes: int = 1_048_576

    @property
    def watching(self) -> bool:
        """Whether members that do not win watch. On whole segments, that would leave no vote."""
        return self.exit.kind is ExitKind.WATCH and self.vote is Vote.WORDS

    @property
    def watching_at_first(self) -> frozenset[MemberName]:
        """The members that watch from the beginning: of those that are to watch, all but one."""
        others = frozenset(self.members) - {self.opener or min(self.members)}
        return others if self.watching else frozenset()
