"""The vocabulary of a query: what is asked, proposed, judged and committed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

MemberName = str
"""A member's name, unique within its ensemble. The ensemble's order of members breaks ties."""


class Role(Enum):
    """Who wrote a message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


Prompt = tuple[Message, ...] | str
"""A conversation, which each model renders with its own chat template, or raw text."""


@dataclass(frozen=True, slots=True)
class Context:
    """Everything a member must know to continue an answer; `session_id` is only a caching hint."""

    prompt: Prompt
    committed: tuple[str, ...]
    session_id: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How members draw tokens. `temperature` 0 is greedy; `top_p` 1, `top_k` 0 cut nothing off."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0


class Candidate(NamedTuple):
    """A proposed continuation; `finished` says that the answer would end after it.

    A tuple, as a round looks scores up by candidate a hundred times and more.
    """

    text: str
    finished: bool


class Disagreement(NamedTuple):
    """A token that a verifier would have written otherwise.

    That begins at byte `offset` of the text. In its place the most probable one has `regret` more
    nats, `best_logprob` in all, and the distribution has an entropy: None where that is not told.
    """

    offset: int
    regret: float
    best_logprob: float | None = None
    entropy: float | None = None


class Evidence(NamedTuple):
    """Where a verifier disagrees with a candidate, in nats and in UTF-8 bytes of its text.

    A token's regret is what the verifier's most probable token in its place has more of
    log-probability: 0 where it would have written the same. `regret_sum` is that of all tokens
    together, `regret_max` the largest, `regret_offset` where the token that has it begins, and
    `entropy` that of the verifier's distribution there, None if it cannot tell. `weakest_logprob`
    is the least of the tokens' log-probabilities, `weakest_offset` where that token begins. The end
    token begins where the text ends. `further` are the places of the next largest regrets, and
    `untold` is the largest regret of any other token: None if the verifier does not tell.
    """

    regret_sum: float
    regret_max: float
    regret_offset: int
    entropy: float | None
    weakest_logprob: float
    weakest_offset: int
    further: tuple[Disagreement, ...] = ()
    untold: float | None = None

    @property
    def places(self) -> Iterator[Disagreement]:
        """Where the verifier disagrees, largest regret first, as far as it tells."""
        known = self.weakest_offset == self.regret_offset
        best = min(0.0, self.weakest_logprob + self.regret_max) if known else None
        yield Disagreement(self.regret_offset, self.regret_max, best, self.entropy)
        yield from self.further

    def hides(self, regret: float) -> bool:
        """Whether a token may have so large a regret, and its place is not told."""
        if self.untold is not None:
            return self.untold >= regret
        return min(place.regret for place in self.places) >= regret


class Score(NamedTuple):
    """What a verifier makes of a candidate: a tuple, as a round has one of each for all.

    `logprob_sum` in nats over `token_count` tokens (a finished candidate's end token included),
    `probability_mean` the arithmetic mean of their probabilities, `byte_count` of the UTF-8 text.
    `evidence` is None where the verifier's backend has none.
    """

    logprob_sum: float
    probability_mean: float
    token_count: int
    byte_count: int
    evidence: Evidence | None = None


class SegmentFinish(Enum):
    """Why a proposal ends: the segment's token limit, the model's end token, or a stop string."""

    LENGTH = "length"
    END = "end"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Proposal:
    """A member's next segment, `token_count` of its own tokens long.

    `own_score` is the member's own score of its candidate if drafting gave it exactly; that member
    need not be asked again. `context_tokens` is the length of what it continues, in its own tokens.
    """

    text: str
    finish: SegmentFinish
    token_count: int
    own_score: Score | None = None
    context_tokens: int = 0

    @property
    def passes(self) -> int:
        """Passes through the model that drafting it took, as far as its text shows."""
        return self.token_count + (self.finish is SegmentFinish.END)


class FinishReason(Enum):
    """Why an answer ends: complete (or at a stop string), or at max_tokens."""

    STOP = "stop"
    LENGTH = "length"


class DepartureReason(Enum):
    """Why a member is no longer asked.

    The exit policy; a failure; that it finds the request wrong, or too long; or lateness.
    """

    EXIT = "exit"
    FAILED = "failed"
    REJECTED = "rejected"
    STRAGGLER = "straggler"


@dataclass(frozen=True, slots=True)
class Departure:
    """A member that is no longer asked. `detail` never holds prompt or answer text."""

    member: MemberName
    reason: DepartureReason
    detail: str = ""


Shares = tuple[float, ...]
"""A share per candidate, in the candidates' order: in [0, 1] each, 1 together."""

Judgements = Mapping[MemberName, Shares]
"""Each verifier's own shares, in the ensemble's order."""


@dataclass(frozen=True, slots=True)
class JudgedCandidate:
    """A distinct candidate of a round.

    `share` is its fused share; the shares of a round sum to 1, and what is committed without a
    vote has 1. `judgements` holds each verifier's own share, which sum to 1 over the candidates,
    those it proposed included even where they do not count; empty if the round was not scored.
    """

    candidate: Candidate
    proposers: tuple[MemberName, ...]
    share: float
    judgements: tuple[tuple[MemberName, float], ...] = field(default=())


@dataclass(frozen=True, slots=True)
class CommittedRound:
    """What a round added to the answer, and how it came about.

    `segment` is the committed text; `text` what may be shown now (the end of `segment` is held back
    while it could still become a stop string). `number` is 1 for the first round of this call.
    `candidates` come best first; `took_part` are the members that proposed, in the ensemble's
    order, `watched` those that only judged what others proposed, and `objected` those of them that
    spoke up.
    """

    number: int
    segment: str
    text: str
    winner: MemberName
    token_count: int
    candidates: tuple[JudgedCandidate, ...]
    took_part: tuple[MemberName, ...]
    left: tuple[Departure, ...] = ()
    recalled: tuple[MemberName, ...] = ()
    watched: tuple[MemberName, ...] = ()
    objected: tuple[MemberName, ...] = ()
