"""What a caller gets: the events of an answer as they come, and the answer as a whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from specfuse.errors import Internal


class FinishReason(StrEnum):
    """Why an answer ends: complete (or at a stop string), or at max_tokens."""

    STOP = "stop"
    LENGTH = "length"


class DepartureReason(StrEnum):
    """Why a member is no longer asked: the exit policy, a failure, or lateness."""

    EXIT = "exit"
    FAILED = "failed"
    STRAGGLER = "straggler"


@dataclass(frozen=True, slots=True)
class Departure:
    """A member that is no longer asked. `detail` says what a failure was."""

    member: str
    reason: DepartureReason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one verifier made of a candidate: its share among those it judged, in [0, 1]."""

    verifier: str
    share: float


@dataclass(frozen=True, slots=True)
class RoundCandidate:
    """A distinct proposal of a round.

    `finished` says that the answer would end after it. `share` is its fused share: those of a round
    sum to 1. `judgements` has one entry per verifier; none if the round was not scored.
    """

    text: str
    finished: bool
    proposers: tuple[str, ...]
    share: float
    judgements: tuple[Judgement, ...] = ()


@dataclass(frozen=True, slots=True)
class RoundTimings:
    """Seconds of wall clock that a round took. `score_seconds` is 0 if it was not scored."""

    propose_seconds: float
    score_seconds: float
    total_seconds: float


@dataclass(frozen=True, slots=True)
class Started:
    """First event: the query was admitted. `members` are in the ensemble's order.

    `request_id` is what the fuser calls the query in its accounts and its traces; empty if it did
    not say.
    """

    ensemble: str
    members: tuple[str, ...]
    session_id: str
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Segment:
    """One more segment of the answer is committed.

    `text` is what to append to the answer now. It differs from `segment`, the committed text, only
    around stop strings: an end that could still become one is held back. `round` is 1 for the first
    of this call, `token_count` in the winner's own tokens. `candidates` come best first; `active`
    drafted, `watched` only judged, and `objected` are those of these that objected; `left` left
    after this round and `recalled` came back for it.
    """

    round: int
    segment: str
    text: str
    winner: str
    token_count: int
    candidates: tuple[RoundCandidate, ...]
    active: tuple[str, ...]
    left: tuple[Departure, ...]
    recalled: tuple[str, ...]
    timings: RoundTimings
    watched: tuple[str, ...] = ()
    objected: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CallCounts:
    """Calls of one kind to members: those made, and those a round could do without."""

    made: int
    avoided: int


@dataclass(frozen=True, slots=True)
class Finished:
    """Last event: the answer is complete.

    `text` was held back and turned out to be no stop string: append it to the answer. `rounds`,
    `output_tokens` (in the winners' own tokens) and calls are of this call alone. `lost` are the
    members lost to failure or lateness, `absent` those that only some round did without; the answer
    is `degraded` if there are any of either. `discarded_tokens` were drafted, each in its
    proposer's own tokens, and not committed; `passes` are those through models, one for each token
    drafted and one for each call to score.

    `resumed` is how often the answer was interrupted and gone on with. Then rounds, tokens, `lost`,
    `absent` and seconds are of all its streams, pauses between them included. What an interrupted
    stream cost beyond the proposals that came is not known: the calls are at least so many, and
    `discarded_tokens` are of the last stream. `request_ids` are what the fusers call the streams,
    each of which is a request to them.
    """

    reason: FinishReason
    text: str
    rounds: int
    output_tokens: int
    propose_calls: CallCounts
    score_calls: CallCounts
    lost: tuple[Departure, ...]
    degraded: bool
    total_seconds: float
    discarded_tokens: int = 0
    absent: tuple[str, ...] = ()
    resumed: int = 0
    passes: int = 0
    request_ids: tuple[str, ...] = ()

    @property
    def calls_made(self) -> int:
        """Calls to members, of both kinds."""
        return self.propose_calls.made + self.score_calls.made

    @property
    def calls_avoided(self) -> int:
        """Calls that asking every member twice a round would have taken beyond those made."""
        return self.propose_calls.avoided + self.score_calls.avoided


Event = Started | Segment | Finished
"""What a stream yields: one `Started`, a `Segment` per round, one `Finished`."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer and how it came about.

    `text` is the whole answer; if the call resumed an interrupted one, it begins with what that one
    had given. `segments` are those of this call.
    """

    text: str
    started: Started = field(repr=False)
    segments: tuple[Segment, ...] = field(repr=False)
    finished: Finished = field(repr=False)

    @classmethod
    def of(cls, events: list[Event], *, after: str = "") -> Answer:
        """The answer that a completed stream's events make up, after the text of an earlier one.

        Raises:
            Internal: the stream lacked its beginning or its end.
        """
        segments = tuple(event for event in events if isinstance(event, Segment))
        match events:
            case [Started() as started, *_, Finished() as finished]:
                text = after + "".join(segment.text for segment in segments) + finished.text
                return cls(text, started, segments, finished)
        raise Internal("an answer's stream must begin with Started and end with Finished")

    @property
    def finish_reason(self) -> FinishReason:
        """Why the answer ends."""
        return self.finished.reason

    @property
    def ensemble(self) -> str:
        """The ensemble that answered."""
        return self.started.ensemble

    @property
    def members(self) -> tuple[str, ...]:
        """The ensemble's members, in its order."""
        return self.started.members

    @property
    def lost(self) -> tuple[Departure, ...]:
        """The members lost on the way."""
        return self.finished.lost

    @property
    def absent(self) -> tuple[str, ...]:
        """The members that some round did without, and that were never lost."""
        return self.finished.absent

    @property
    def degraded(self) -> bool:
        """Whether any member was lost on the way, or absent from a round."""
        return self.finished.degraded

    @property
    def output_tokens(self) -> int:
        """Tokens of this call's segments, in the winners' own tokens."""
        return self.finished.output_tokens

    @property
    def resumed(self) -> int:
        """How often it was interrupted and gone on with."""
        return self.finished.resumed

    @property
    def request_ids(self) -> tuple[str, ...]:
        """What fusers call it in their accounts and traces: an id for each of its streams."""
        return self.finished.request_ids

    @property
    def calls_made(self) -> int:
        """Calls to members."""
        return self.finished.calls_made

    @property
    def calls_avoided(self) -> int:
        """Calls to members that were not needed."""
        return self.finished.calls_avoided


@dataclass(frozen=True, slots=True)
class Ensemble:
    """An ensemble that can be asked.

    `ready_members` can be reached now; a query goes on while `quorum` members answer.
    `max_tokens_limit` is the most tokens of answer that a request may ask for.
    """

    name: str
    members: tuple[str, ...]
    ready_members: tuple[str, ...]
    quorum: int
    max_tokens_limit: int
