"""What a model service is asked and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Role(Enum):
    """Who wrote a message. The values are those of the usual chat templates."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Context:
    """Everything a model must know to continue an answer.

    `prompt` is a conversation, rendered with the model's chat template, or raw text.
    The answer so far is `"".join(committed)`; each segment is tokenized on its own.
    `session_id` is a routing and caching hint and never changes an answer.
    """

    prompt: tuple[Message, ...] | str
    committed: tuple[str, ...] = ()
    session_id: str = ""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn. `temperature` 0 is greedy; `top_p` 1 and `top_k` 0 cut nothing off."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0

    @property
    def greedy(self) -> bool:
        """Whether the most probable token is always taken."""
        return self.temperature == 0.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A continuation to be judged; `finished` says that the answer would end after it."""

    text: str
    finished: bool


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A token that a model would have written otherwise.

    That begins at byte `offset` of the text. The most probable one in its place has `best_logprob`
    nats, which is `regret` more.
    """

    offset: int
    regret: float
    best_logprob: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """Where a model disagrees with a candidate, in nats and in UTF-8 bytes of its text.

    A token's regret is what the most probable token in its place has more of log-probability.
    `regret_sum` is that of all tokens together, `regret_max` the largest, and `regret_offset` where
    the token that has it begins; `entropy` is that of the model's distribution in that place, None
    if it is not known. `weakest_logprob` is the least of the tokens' log-probabilities, and
    `weakest_offset` where that token begins. Of several tokens it is the first; the end token
    begins where the text ends. `further` are the places of the next largest regrets, largest first,
    without those of 0, and `untold` is the largest regret of any token that has no place in all of
    these.
    """

    regret_sum: float
    regret_max: float
    regret_offset: int
    entropy: float | None
    weakest_logprob: float
    weakest_offset: int
    further: tuple[Disagreement, ...]
    untold: float


@dataclass(frozen=True, slots=True)
class Score:
    """How probable a model finds a candidate.

    `logprob_sum` is in nats; `probability_mean` the arithmetic mean of the tokens' probabilities;
    `token_count` includes the end token of a finished candidate; `byte_count` is of the UTF-8 text.
    `evidence` is None where the backend does not know the most probable tokens.
    """

    logprob_sum: float
    probability_mean: float
    token_count: int
    byte_count: int
    token_logprobs: tuple[float, ...] = field(default=(), repr=False)
    evidence: Evidence | None = None


class SegmentFinish(Enum):
    """Why a segment ends: the call's token limit, the model's end token, or a stop string."""

    LENGTH = "length"
    END = "end"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a call's context, and how many of them the cache held."""

    context_tokens: int
    cached_tokens: int


@dataclass(frozen=True, slots=True)
class ProposeRequest:
    """Asks for the next segment: at most `max_tokens` tokens, ended early by any of `stop`."""

    context: Context
    max_tokens: int
    sampling: Sampling = Sampling()
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Proposal:
    """A drafted segment.

    `token_count` counts the model's own tokens in `text`, without the end token. `own_score` is
    exactly what scoring `Candidate(text, finish is END)` would say, or None if drafting did not
    establish that.
    """

    text: str
    finish: SegmentFinish
    token_count: int
    usage: Usage
    own_score: Score | None = None


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """Asks for the score of every candidate given the context, in order."""

    context: Context
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Scores:
    """A score per candidate, in the request's order."""

    scores: tuple[Score, ...]
    usage: Usage


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do beyond answering correctly. `evidence`: its scores have some."""

    tree_scoring: bool
    own_scores: bool
    prefix_cache: bool
    evidence: bool = False


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """The served model. `context_window` is in tokens."""

    name: str
    revision: str
    tokenizer_fingerprint: str
    context_window: int
    backend: str
    capabilities: Capabilities
