"""What an engine does: it opens contexts and runs steps over them, several in one go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from model_service.ports import ForwardKind
from specfuse.errors import SpecFuseError

TokenIds = tuple[int, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Distribution:
    """What the model says of one next token.

    `logprobs` is [vocabulary], float32, of the raw logits; `best` the most probable token.
    """

    logprobs: torch.Tensor
    best: int
    best_logprob: float

    def kept(self) -> Distribution:
        """The same in memory of its own, so that the rows it came with can be freed."""
        return Distribution(self.logprobs.clone(), self.best, self.best_logprob)


@dataclass(frozen=True, eq=False, slots=True)
class Rows:
    """Distributions after several tokens: `logprobs` is [rows, vocabulary], float32."""

    logprobs: torch.Tensor
    best: tuple[int, ...]
    best_logprobs: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.best)

    def __getitem__(self, index: int) -> Distribution:
        return Distribution(self.logprobs[index], self.best[index], self.best_logprobs[index])

    def part(self, start: int, stop: int) -> Rows:
        """Rows [start, stop)."""
        return Rows(
            self.logprobs[start:stop], self.best[start:stop], self.best_logprobs[start:stop]
        )


class Lease(Protocol):
    """A call's hold on the cached part of its context."""

    ids: TokenIds
    """The whole context."""

    @property
    def cached(self) -> int:
        """How many of its tokens were there when it was opened."""

    @property
    def missing(self) -> int:
        """How many of its tokens are still to be fed."""

    @property
    def following(self) -> Distribution | None:
        """What follows the context, if it is kept. It is if nothing was missing from the start."""

    def begin_draft(self, capacity: int) -> None:
        """Prepares for up to `capacity` tokens after the context, fed by `Step.draft`.

        Raises:
            Overloaded: there is no memory for them.
        """

    def end_draft(self, keep: int, following: Distribution | None) -> None:
        """Ends the draft. Its first `keep` tokens are likely to become context.

        `following` is what follows them, if that was established.
        """

    def close(self) -> None:
        """Lets go of everything. Idempotent."""


@dataclass(frozen=True, slots=True)
class Step:
    """Tokens to feed in one forward pass, all after what the lease holds.

    First `ingest` of the context's missing tokens; then, once none is missing, either `draft`,
    tokens that follow the draft so far, or `branches`, alternatives that do not see each other.
    The answer has a row for the last ingested token, for every drafted and for every branch token.
    """

    lease: Lease
    ingest: int = 0
    draft: TokenIds = ()
    branches: tuple[TokenIds, ...] = ()

    @property
    def tokens(self) -> int:
        """How many tokens it feeds."""
        return self.ingest + len(self.draft) + sum(map(len, self.branches))

    @property
    def kind(self) -> ForwardKind:
        """What it is mainly for."""
        if self.branches:
            return "score"
        return "draft" if self.draft else "prefill"


Outcome = Rows | SpecFuseError
"""What becomes of a step: its rows, or why it alone failed."""


class Engine(Protocol):
    """Runs a model. Used by one thread."""

    @property
    def scores_trees(self) -> bool:
        """Whether branches share one forward pass."""

    @property
    def caches_prefixes(self) -> bool:
        """Whether contexts are kept between calls."""

    @property
    def longest_context(self) -> int | None:
        """The most tokens of context and segment that it has memory for; None if any number."""

    def open(self, ids: TokenIds) -> Lease:
        """A lease on the longest cached prefix of the context."""

    def run(self, steps: Sequence[Step]) -> list[Outcome]:
        """Runs the steps and moves their leases on; an outcome for each, in order.

        Raises:
            Exception: what the forward pass raised. No lease has moved; the steps may be run again.
        """

    def close(self) -> None:
        """Ends what the engine started. Called when nothing runs on it any more. Idempotent."""
