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


class Weighting(Enum):
    """How the verifiers' weights develop: equal (SpecFuse), or rewarded for winning (SpecEM)."""

    UNIFORM = "uniform"
    HEDGE = "hedge"


class SelfJudgement(Enum):
    """Whether a model's score of its own candidate counts."""

    INCLUDE = "include"
    DROP = "drop"


class ExitKind(Enum):
    """Which exit policy decides who leaves a query early."""

    NONE = "none"
    ENTROPY_SOFTMAX = "entropy_softmax"


@dataclass(frozen=True, slots=True)
class ExitRules:
    """When members leave a query, and come back.

    `tau0` scales the softmax's temperature (dimensionless), `alpha` the threshold alpha / |A|. With
    recall, leaving too early costs little, so `tau0` is low: on the shipped experts 0.01 to 0.03
    are alike, from 0.04 losers linger, and no answer gets better (see docs/results/exit-tuning.md).
    Nobody leaves before `min_rounds` rounds or below `min_models` members. With `recall`, members
    that left come back for a round whose winner's confidence falls below `recall_ratio` of the mean
    confidence of this query's earlier rounds. It is near 1 because one doubtful word among ten
    tokens moves a segment's confidence little.
    """

    kind: ExitKind = ExitKind.ENTROPY_SOFTMAX
    tau0: float = 0.02
    alpha: float = 0.5
    min_rounds: int = 1
    min_models: int = 1
    recall: bool = True
    recall_ratio: float = 0.98


@dataclass(frozen=True, slots=True)
class Rules:
    """What governs the rounds of one query.

    `members` are in the ensemble's order, which breaks ties. `segment_tokens` (at least 1) is the
    most a member drafts a round; `max_tokens` (at least 1) the most the answer may have, counted in
    the winners' own tokens. The answer also ends once it has `max_segments` segments or `max_bytes`
    bytes of UTF-8 (at least 1 each): members accept no longer ones. `eta` is hedge's learning rate.
    `quorum` (at least 1) is the fewest members that must answer for the query to go on; members
    that left early stand by and count. A member that is late in `max_misses` rounds leaves the
    query.
    """

    members: tuple[MemberName, ...]
    max_tokens: int
    segment_tokens: int = 10
    stop: tuple[str, ...] = ()
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
