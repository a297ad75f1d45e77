"""What a backend asks of the server that runs its model. Each kind of server implements this."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from model_service.backends.text.encoders import TokenIds
from model_service.core.types import Candidate, Context, Sampling
from specfuse.deadline import Deadline


@dataclass(frozen=True, slots=True)
class Identity:
    """What a server runs, as it says itself. Two that differ are never taken for one.

    `window` is the most tokens of context and segment together, None if it does not say.
    """

    model: str
    window: int | None = None
    version: str = ""

    def __str__(self) -> str:
        version = f" ({self.version})" if self.version else ""
        window = "" if self.window is None else f" with a window of {self.window} tokens"
        return f"{self.model}{version}{window}"


@dataclass(frozen=True, slots=True)
class Load:
    """Requests that a server works on, and those that wait in its queue."""

    running: int
    waiting: int


@dataclass(frozen=True, slots=True)
class TokenizedContext:
    """A context, and its ids by the model's own tokenizer."""

    context: Context
    ids: TokenIds


@dataclass(frozen=True, slots=True)
class Branch:
    """A candidate, and the ids by which it extends its context, its end token included."""

    candidate: Candidate
    ids: TokenIds


@dataclass(frozen=True, slots=True)
class Generated:
    """Tokens that a server generated.

    If the model ended its answer, `ids` ends with the end token; `ended` says so where the server
    took a token for an end that the model's own files do not call one. `logprobs` are natural
    logarithms, one for each id, exactly what scoring the same tokens would say; None if the
    server's are not, or may not be. `best` are those of the most probable tokens in the same
    places, None if it does not tell. `scored_as` is for servers that are sent text: the tokens that
    a candidate after the same context would be scored by.
    """

    ids: TokenIds
    logprobs: tuple[float, ...] | None
    cached_tokens: int = 0
    ended: bool = False
    best: tuple[float, ...] | None = None
    scored_as: Callable[[Candidate], TokenIds] | None = None

    def scores(self, candidate: Candidate, ids: TokenIds) -> bool:
        """Whether the first numbers are those of a candidate, whose tokens are `ids` here."""
        if not ids or ids != self.ids[: len(ids)]:
            return False
        return self.scored_as is None or self.scored_as(candidate) == ids


@dataclass(frozen=True, slots=True)
class Judged:
    """For each branch the natural logarithms of its tokens' probabilities, in order.

    `best` are those of the most probable tokens in the same places; None if it does not tell.
    """

    logprobs: tuple[tuple[float, ...], ...]
    cached_tokens: int = 0
    best: tuple[tuple[float, ...], ...] | None = None


class Server(Protocol):
    """A server that runs one model.

    Raises (all but `close`):
        Unavailable: it cannot be reached, or is not ready.
        Overloaded: it takes no more requests now.
        ModelFailure: its answer is not what it should be, or has no probabilities.
        Misconfigured: it refuses our key, or lacks what a flag of its would give it; says which.
        DeadlineExceeded: the deadline passed. Work on the server ends, too.
        ContextTooLong: it finds the context too long. Only where ours was found to fit.
    """

    async def identify(self, deadline: Deadline) -> Identity:
        """What it runs. Raises `Unavailable` while it is loading."""

    async def spells(self, text: str, ids: TokenIds, deadline: Deadline) -> bool:
        """Whether its tokenizer agrees that these ids are this text."""

    async def generate(
        self, context: TokenizedContext, tokens: int, sampling: Sampling, deadline: Deadline
    ) -> Generated:
        """Continues the context by at most `tokens` tokens; stop strings are not its concern."""

    async def judge(
        self, context: TokenizedContext, branches: Sequence[Branch], deadline: Deadline
    ) -> Judged:
        """Scores every branch, teacher-forced, with the model's own probabilities."""

    async def load(self, deadline: Deadline) -> Load | None:
        """How busy it is; None if it does not say."""
