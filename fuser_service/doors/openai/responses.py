"""What is sent: OpenAI's objects, with what is ours under `specfuse`.

JSON is written in ASCII: some readers of event streams take U+2028 and its like for line ends.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

FinishReason = Literal["stop", "length"]


class Sendable(BaseModel):
    """An object of the API, or a part of one."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    def json_bytes(self) -> bytes:
        """The object as it goes over the wire; what is None and optional is left out."""
        return json.dumps(self.model_dump(exclude_unset=True)).encode()


class Usage(Sendable):
    """What an answer took, in tokens."""

    prompt_tokens: int
    """Of the context that the first round's winner was given, in its own tokenizer and template.
    That is the prompt and, if an answer is resumed, what it had."""
    completion_tokens: int
    """Of the committed segments of this request, each in its winner's tokenizer."""
    total_tokens: int
    """Both."""


class Departed(Sendable):
    """A member that is no longer asked."""

    member: str
    reason: Literal["exit", "failed", "straggler"]
    detail: str


class RoundMilliseconds(Sendable):
    """How long a round took, by the clock on the wall."""

    propose: float
    score: float
    total: float


class Candidate(Sendable):
    """A distinct proposal of a round."""

    text: str
    finished: bool
    proposers: list[str]
    share: float
    judgements: dict[str, float]
    """By verifier, its own share for the candidate."""


class Round(Sendable):
    """A committed round."""

    round: int
    """1 for the first of this request."""
    segment: str
    """What was committed. Differs from the text shown only where a stop string could begin."""
    tokens: int
    """Of the segment, in the winner's tokenizer."""
    winner: str
    """The member whose proposal it is."""
    finished: bool
    """Whether the winner held it to be the end."""
    shares: dict[str, float]
    """By member, the share of its proposal in the vote."""
    left: list[Departed]
    """Who left after this round."""
    recalled: list[str]
    """Who came back for it."""
    watched: list[str]
    """Who only judged what others proposed."""
    objected: list[str]
    """Who of them objected, and was heard in it or is in the next."""
    milliseconds: RoundMilliseconds
    candidates: list[Candidate] | None = None
    """With `trace`: the proposals, best first."""


class Calls(Sendable):
    """Calls to members: those made, and those that two a member and round would have taken more."""

    made: int
    avoided: int


class CallKinds(Sendable):
    """Calls by kind."""

    propose: Calls
    score: Calls


class Facts(Sendable):
    """How an answer came about."""

    members: list[str]
    """The ensemble's."""
    session_id: str
    """What its members cache under."""
    calls: CallKinds
    passes: int
    """Passes through models: one for each token drafted, and one for each call to score."""
    discarded_tokens: int
    """Drafted and not committed."""
    degraded: bool
    """Whether any member was lost, or absent from a round: the answer may read differently then."""
    lost: list[Departed]
    """Members lost to failure or lateness."""
    absent: list[str]
    """Members that missed a round and were not lost for it."""
    milliseconds: float
    """The whole answer, by the clock on the wall."""
    rounds: list[Round] | None = None
    """The rounds of an answer that was not streamed; a stream has them with its chunks."""


class Message(Sendable):
    """An answer's message."""

    role: Literal["assistant"]
    content: str
    refusal: None = None


class ChatChoice(Sendable):
    """The only choice."""

    index: int
    message: Message
    logprobs: None
    finish_reason: FinishReason


class ChatCompletion(Sendable):
    """An answer to chat completions."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    specfuse: Facts


class Delta(Sendable):
    """What a chunk adds to the message."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class ChatChunkChoice(Sendable):
    """The only choice."""

    index: int
    delta: Delta
    logprobs: None
    finish_reason: FinishReason | None


class ChatCompletionChunk(Sendable):
    """One event of a stream of chat completions."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: Usage | None = None
    specfuse: Round | Facts | None = None


class TextChoice(Sendable):
    """The only choice."""

    index: int
    text: str
    logprobs: None
    finish_reason: FinishReason | None


class Completion(Sendable):
    """An answer to completions, or one event of its stream."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage | None = None
    specfuse: Round | Facts | None = None


class EnsembleFacts(Sendable):
    """An ensemble's members, and how it stands."""

    members: list[str]
    ready_members: list[str]
    """Those that can be reached now."""
    quorum: int
    """Fewest that must answer."""
    ready: bool
    """Whether it can be asked: so many can be reached, or requests wait until they are awake."""
    max_tokens_limit: int
    """Most tokens that a request may ask for."""


class Model(Sendable):
    """An ensemble."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    specfuse: EnsembleFacts


class ModelList(Sendable):
    """All ensembles."""

    object: Literal["list"]
    data: list[Model]


class Health(Sendable):
    """How the service is."""

    status: Literal["ok", "ready", "not ready", "draining"]
    ensembles: dict[str, bool] | None = None
    """By name, whether it can be asked."""


class Error(Sendable):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    """The field that is wrong."""
    code: str
    specfuse: dict[str, Any] | None = None
    """Under `resume`, what a new request needs to go on with an answer that was interrupted; under
    `retry_after_seconds`, when to ask again."""


class ErrorBody(Sendable):
    """An error."""

    error: Error
