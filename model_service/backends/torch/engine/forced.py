"""From log-probabilities to what the model says of tokens that it is given.

Nobody reads the entropy but where the model most wanted another token, so it is computed there and
nowhere else: for one row a candidate, not for every token's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, islice

import torch

from model_service.backends.torch.engine.engine import Distribution, Rows, TokenIds
from model_service.core.scores import most_regretted


@dataclass(frozen=True, slots=True)
class Forced:
    """What the model says of tokens in their places.

    `logprobs` are theirs, `best` those of the most probable tokens there; `entropy` is that of the
    distribution in the place where the two differ most.
    """

    logprobs: tuple[float, ...]
    best: tuple[float, ...]
    entropy: float

    @property
    def regret(self) -> float:
        """By how much the two differ most."""
        place = most_regretted(self.logprobs, self.best)
        return self.best[place] - self.logprobs[place]


def forced_as_tree(
    following: Distribution, rows: Rows, branches: Sequence[TokenIds]
) -> list[Forced]:
    """What is said of alternatives, from the rows of all their tokens.

    A branch's last token is judged by the one before it, but is fed as well: it may become context.
    """
    starts = accumulate(map(len, branches), initial=0)
    judging = [
        range(start, start + len(branch) - 1)
        for start, branch in zip(starts, branches, strict=False)
    ]
    firsts = _numbers(following.logprobs[_index([branch[0] for branch in branches], following)])
    rest = iter(
        _numbers(
            rows.logprobs[
                _index([row for places in judging for row in places], rows),
                _index([token for branch in branches for token in branch[1:]], rows),
            ]
        )
    )
    told: list[tuple[tuple[float, ...], tuple[float, ...]]] = []
    questioned: list[torch.Tensor] = []
    for first, places in zip(firsts, judging, strict=True):
        logprobs = (first, *islice(rest, len(places)))
        best = (following.best_logprob, *(rows.best_logprobs[row] for row in places))
        place = most_regretted(logprobs, best)
        questioned.append(rows.logprobs[places[place - 1]] if place else following.logprobs)
        told.append((logprobs, best))
    entropies = _numbers(entropy(torch.stack(questioned)))
    return [Forced(*numbers, one) for numbers, one in zip(told, entropies, strict=True)]


def forced_in_rows(rows: Rows, ids: TokenIds) -> Forced:
    """What is said of tokens, each by the row in its place."""
    index = _index(ids, rows)
    logprobs = tuple(_numbers(rows.logprobs.gather(1, index[:, None])[:, 0]))
    place = most_regretted(logprobs, rows.best_logprobs)
    return Forced(logprobs, rows.best_logprobs, float(entropy(rows.logprobs[place])))


def forced_in_turn(trail: Sequence[Distribution], ids: TokenIds) -> Forced:
    """What is said of tokens, each by the distribution in its place."""
    logprobs = tuple(map(_logprob, trail, ids))
    best = tuple(distribution.best_logprob for distribution in trail[: len(ids)])
    place = most_regretted(logprobs, best)
    return Forced(logprobs, best, float(entropy(trail[place].logprobs)))


def joined(parts: Sequence[Forced]) -> Forced:
    """What is said of tokens, of which each part has those that follow the part's before it."""
    return Forced(
        logprobs=tuple(one for part in parts for one in part.logprobs),
        best=tuple(one for part in parts for one in part.best),
        entropy=max(parts, key=lambda part: part.regret).entropy,
    )


def entropy(logprobs: torch.Tensor) -> torch.Tensor:
    """In nats, of distributions over the last dimension. What has probability 0 adds nothing."""
    finite = logprobs.clamp_min(torch.finfo(logprobs.dtype).min)  # 0 times infinity is no number
    return -(logprobs.exp() * finite).sum(-1)


def _logprob(distribution: Distribution, token: int) -> float:
    if token == distribution.best:
        return distribution.best_logprob
    return float(distribution.logprobs[token])


def _index(numbers: Sequence[int], of: Distribution | Rows) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.long, device=of.logprobs.device)


def _numbers(row: torch.Tensor) -> list[float]:
    numbers: list[float] = row.tolist()
    return numbers
