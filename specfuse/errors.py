"""Everything that can go wrong, as exceptions both services and the client share.

    SpecFuseError
    ├── InvalidArgument       a field of the request is wrong
    │   └── ContextTooLong    the context does not fit the model's window
    ├── NotFound              no such ensemble
    ├── Overloaded            the queue is full, or memory is
    ├── DeadlineExceeded      the request's time is up
    ├── Cancelled             the caller went away
    ├── Unavailable           nobody is there to answer
    │   ├── ShuttingDown      the service is draining
    │   └── QuorumLost        too few members are left; carries what was committed
    ├── Misconfigured         a settings file is wrong; nothing was started
    └── Internal              a broken invariant
        └── ModelFailure      the model gave something that is not a probability

`specfuse.rpc.errors` maps each to its canonical gRPC code.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Where an interrupted answer stands: what a new call needs to go on with it.

    `committed_segments` are its segments and `committed_tokens` the tokens spent on them; `text` is
    what its caller has been given of its text.
    """

    committed_segments: tuple[str, ...] = field(default=(), repr=False)
    committed_tokens: int = 0
    text: str = field(default="", repr=False)


class SpecFuseError(Exception):
    """Base of all errors of SpecFuse.

    `reason` is the stable, machine-readable name (UPPER_SNAKE_CASE) of what went wrong; `metadata`
    holds its particulars as strings. Neither ever holds prompt or answer text. `resume` is set by
    the client on whatever interrupts an answer of which something stands.
    """

    reason: ClassVar[str] = "UNKNOWN"
    resume: ResumePoint | None = None

    def __init__(self, message: str, **metadata: str) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = metadata


class InvalidArgument(SpecFuseError):
    """A field of the request is wrong. Names the field, what it was and what it may be."""

    reason = "INVALID_ARGUMENT"

    def __init__(self, field: str, problem: str, **metadata: str) -> None:
        super().__init__(f"{field}: {problem}", field=field, **metadata)
        self.field = field


class ContextTooLong(InvalidArgument):
    """The context and what is to follow it do not fit the model's context window."""

    reason = "CONTEXT_TOO_LONG"

    def __init__(self, *, tokens: int, window: int) -> None:
        super().__init__(
            "context",
            f"{tokens} tokens do not fit the model's context window of {window}; shorten it",
            tokens=str(tokens),
            window=str(window),
        )


class NotFound(SpecFuseError):
    """The request names something that does not exist here."""

    reason = "NOT_FOUND"


class Overloaded(SpecFuseError):
    """There is no room for the call now. Retrying later, or elsewhere, may succeed."""

    reason = "OVERLOADED"


class DeadlineExceeded(SpecFuseError):
    """The time the caller gave is up."""

    reason = "DEADLINE_EXCEEDED"


class Cancelled(SpecFuseError):
    """The caller went away."""

    reason = "CANCELLED"


class Unavailable(SpecFuseError):
    """Nobody is there to answer. Safe to retry: every call is complete in itself."""

    reason = "UNAVAILABLE"


class ShuttingDown(Unavailable):
    """The service is draining and takes no new calls."""

    reason = "SHUTTING_DOWN"


class QuorumLost(Unavailable):
    """Fewer members than the quorum are left.

    `committed_segments` and `committed_tokens` are what a new call needs to go on.
    """

    reason = "QUORUM_LOST"

    def __init__(
        self, message: str, *, committed_segments: tuple[str, ...] = (), committed_tokens: int = 0
    ) -> None:
        super().__init__(message, committed_tokens=str(committed_tokens))
        self.committed_segments = committed_segments
        self.committed_tokens = committed_tokens


class Misconfigured(SpecFuseError):
    """A settings file or an option is wrong; nothing was started."""

    reason = "MISCONFIGURED"


class Internal(SpecFuseError):
    """A broken invariant. This is a bug."""

    reason = "INTERNAL"


class ModelFailure(Internal):
    """The model produced something that is not a probability, or failed in its forward pass."""

    reason = "MODEL_FAILURE"
