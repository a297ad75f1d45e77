"""From log-probabilities to a token: greedy, or drawn with temperature, top-k and top-p.

The draw at a position depends on the seed and the position alone, not on what else runs or on how
many random numbers other calls have drawn. So an answer is the same on every replica, and a second
call with the same seed further on does not repeat the first one's draws.
"""

from __future__ import annotations

import hashlib

import torch

from model_service.backends.torch.engine.engine import Distribution
from model_service.core.types import Sampling


def choose(distribution: Distribution, sampling: Sampling, position: int) -> int:
    """The token at a position of the context."""
    if sampling.greedy:
        return distribution.best
    logprobs, tokens = torch.sort(distribution.logprobs, descending=True, stable=True)
    # Relative to the best, which thus stays at 0 however small the temperature is.
    relative = logprobs.double() - logprobs[0].double()
    probabilities = torch.softmax(relative / sampling.temperature, -1)
    if sampling.top_k:
        probabilities = probabilities[: sampling.top_k]
    cumulative = probabilities.cumsum(-1)
    if sampling.top_p < 1.0:
        nucleus = sampling.top_p * float(cumulative[-1])
        kept = 1 + int(torch.searchsorted(cumulative, nucleus))
        cumulative = cumulative[:kept]
    drawn = uniform(sampling.seed, position) * float(cumulative[-1])
    index = int(torch.searchsorted(cumulative, drawn, right=True))
    return int(tokens[min(index, len(cumulative) - 1)])


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) for a seed and a position."""
    digest = hashlib.blake2b(f"{seed}/{position}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest) >> 11) / (1 << 53)
