"""Exit and recall: which members leave a query early, and when they come back.

Members leave because they keep losing. Exit alone loses the expert that the next part of an answer
needs. It shows in that the remaining members are much less sure of their best candidate
than of the answer so far. The members that left then come back for the round before it is
committed.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from fuser_service.core.rules import ExitKind, ExitRules, Statistic
from fuser_service.core.shares import log_statistic
from fuser_service.core.types import MemberName, Score


@dataclass(frozen=True, slots=True)
class Standing:
    """How the active members stand after a round.

    `quality` is each one's cumulative fused share Q over the last `rounds` rounds (since the start,
    or since members came back), in the ensemble's order; `winners` are all who proposed the segment
    just committed.
    """

    quality: Mapping[MemberName, float]
    rounds: int
    winners: Collection[MemberName]


class ExitPolicy(Protocol):
    """Decides who leaves. Never all: a policy keeps the winners."""

    def leaving(self, standing: Standing, /) -> tuple[MemberName, ...]:
        """The members to leave now, in the ensemble's order."""


@dataclass(frozen=True, slots=True)
class NoExit:
    """Nobody leaves."""

    def leaving(self, _standing: Standing, /) -> tuple[MemberName, ...]:
        """Nobody."""
        return ()


@dataclass(frozen=True, slots=True)
class EntropySoftmax:
    """A member leaves when its probability p_i under a softmax over quality is below alpha / |A|.

    The softmax is sharp when quality is concentrated in few members and flat when it is spread, by
    `softmax_temperature`. Nobody leaves before `min_rounds` rounds of evidence; the winners never
    leave; and never fewer than `min_models` members stay, the best of them.
    """

    tau0: float
    alpha: float
    min_rounds: int
    min_models: int

    def leaving(self, standing: Standing, /) -> tuple[MemberName, ...]:
        """The members whose p_i is below the threshold, as far as the guards let them."""
        members = tuple(standing.quality)
        spare = len(members) - max(self.min_models, 1)
        if standing.rounds < self.min_rounds or spare <= 0:
            return ()
        probabilities = _softmax(tuple(standing.quality.values()), self.tau0)
        ranked = sorted(
            zip(probabilities, members, strict=True),
            key=lambda entry: entry[0],
            reverse=True,  # stable: of equals, the earlier member ranks first
        )
        losing = [
            member
            for probability, member in ranked
            if probability < self.alpha / len(members) and member not in standing.winners
        ]
        leavers = losing[-spare:]
        return tuple(member for member in members if member in leavers)


def exit_policy(rules: ExitRules) -> ExitPolicy:
    """The policy that the rules name."""
    match rules.kind:
        case ExitKind.NONE | ExitKind.WATCH:
            return NoExit()
        case ExitKind.ENTROPY_SOFTMAX:
            return EntropySoftmax(rules.tau0, rules.alpha, rules.min_rounds, rules.min_models)


def softmax_temperature(quality: Sequence[float], tau0: float) -> float:
    """The exit policy's temperature, tau0 * H.

    H, in [0, 1], is the entropy of the quality (each at least 0) normalised to a distribution, over
    the logarithm of how many there are (at least 2); 1 if all are 0.

    This formula is ours. SpecFuse describes an entropy-weighted softmax over cumulative quality,
    but its exact temperature is in no text that we could read.
    """
    total = math.fsum(quality)
    if total == 0:
        return tau0
    shares = [q / total for q in quality]
    entropy = -math.fsum(share * math.log(share) for share in shares if share > 0)
    return tau0 * entropy / math.log(len(quality))


def _softmax(quality: Sequence[float], tau0: float) -> tuple[float, ...]:
    best = max(quality)
    temperature = softmax_temperature(quality, tau0)
    if temperature <= 0:  # all quality is one member's
        powers = [float(q == best) for q in quality]
    else:
        powers = [math.exp((q - best) / temperature) for q in quality]
    total = math.fsum(powers)
    return tuple(power / total for power in powers)


def recalls(rules: ExitRules) -> bool:
    """Whether members that left may come back."""
    return rules.recall and rules.kind is not ExitKind.NONE


def confidence(scores: Iterable[Score]) -> float | None:
    """The best `geometric` statistic among the scores of one candidate, in [0, 1]; None if none."""
    logs = [log_statistic(score, Statistic.GEOMETRIC) for score in scores]
    return math.exp(max(logs)) if logs else None


def falters(now: float | None, earlier: Sequence[float], ratio: float) -> bool:
    """Whether confidence fell below `ratio` of the mean of the query's earlier rounds.

    Relative, because absolute confidence differs between models and temperatures. `earlier` leaves
    out rounds whose confidence is unknown; if it is empty, there is nothing to compare.
    """
    if now is None or not earlier:
        return False
    return now < ratio * math.fsum(earlier) / len(earlier)
