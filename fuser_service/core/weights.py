"""The verifiers' weights: equal, or earned within the query by proposing what the others prefer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fuser_service.core.candidates import DistinctCandidate
from fuser_service.core.types import Judgements, MemberName


@dataclass(frozen=True, slots=True)
class Weights:
    """A weight per member, kept as its logarithm so that no learning rate can make it 0 or inf."""

    logs: Mapping[MemberName, float]

    @classmethod
    def uniform(cls, members: Iterable[MemberName]) -> Weights:
        """The same weight for everyone."""
        return cls(dict.fromkeys(members, 0.0))

    def among(self, members: Sequence[MemberName]) -> dict[MemberName, float]:
        """The weights of these members (at least one), scaled to sum to 1."""
        return {member: math.exp(log) for member, log in self.logs_among(members).items()}

    def logs_among(self, members: Sequence[MemberName]) -> dict[MemberName, float]:
        """The logarithms of these weights, always finite."""
        total = _log_sum_exp([self.logs[member] for member in members])
        return {member: self.logs[member] - total for member in members}

    def rewarded(self, rewards: Mapping[MemberName, float], rate: float) -> Weights:
        """Hedge's step, w_i <- w_i exp(rate * reward_i) / Z, among those with a reward.

        Z keeps the sum of their weights: members that sat the round out neither gain nor lose.
        """
        if not rewards:
            return self
        raised = {member: self.logs[member] + rate * reward for member, reward in rewards.items()}
        before = _log_sum_exp([self.logs[member] for member in rewards])
        log_z = _log_sum_exp(list(raised.values())) - before
        return Weights({**self.logs, **{member: log - log_z for member, log in raised.items()}})


def learning_rate(eta: float, members: int, number: int) -> float:
    """Hedge's rate in round `number` (from 1) of an ensemble: eta * sqrt(1 / members) / number."""
    return eta * math.sqrt(1 / members) / number


def rewards(
    candidates: Sequence[DistinctCandidate], judgements: Judgements
) -> dict[MemberName, float]:
    """Each proposer's reward, in [0, 1]: the share of comparisons that its candidate wins.

    Every verifier but the proposer itself compares it with every other candidate; it wins if its
    share is strictly larger. With only two models, that count is a tie whenever each prefers its
    own candidate, so the shares they get from each other are compared instead: the larger earns 1.
    """
    own = {
        member: index
        for index, candidate in enumerate(candidates)
        for member in candidate.proposers
    }
    match tuple(own):
        case (first, second) if own.keys() == judgements.keys():
            given_first = judgements[second][own[first]]
            given_second = judgements[first][own[second]]
            return {
                first: float(given_first > given_second),
                second: float(given_second > given_first),
            }
        case _:
            return {member: _won(member, index, judgements) for member, index in own.items()}


def _won(member: MemberName, own: int, judgements: Judgements) -> float:
    comparisons = [
        shares[own] > share
        for verifier, shares in judgements.items()
        if verifier != member
        for index, share in enumerate(shares)
        if index != own
    ]
    return sum(comparisons) / len(comparisons) if comparisons else 0.0


def _log_sum_exp(logs: Sequence[float]) -> float:
    largest = max(logs)
    return largest + math.log(math.fsum(math.exp(log - largest) for log in logs))
