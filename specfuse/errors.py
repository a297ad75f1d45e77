"""Everything that can go wrong, as exceptions both services and the client share.

    SpecFuseError
    ├── InvalidArgument       a field of the request is wrong
    │   └── ContextTooLong    the context does not fit the model's window
    ├── Unauthenticated       the caller did not prove who it is
    ├── Forbidden             the caller is known, and may not do this
    ├── NotFound              no such ensemble
    ├── RateLimited           the caller has used up its share
    ├── Overloaded            the queue is full, or memory is
    ├── DeadlineExceeded      the request's time is up
    ├── Cancelled             the caller went away
    ├── Unavailable           what should answer cannot be reached
    │   ├── ShuttingDown      the service is draining
    │   ├── RevisionLost      only replicas of other revisions than the query's are left
    │   └── QuorumLost        too few members are left; carries what was committed
    ├── Misconfigured         a settings file is wrong; nothing was started
    └── Internal              a broken invariant
        └── ModelFailure      the model gave something that is not a probability

Each has a code, which says for every transport what kind of error it is. A transport maps the codes
once: gRPC in `specfuse.rpc.errors`.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar


class Code(Enum):
    """The kinds of errors, whatever the transport. The values are good as metric labels."""

    UNKNOWN = "unknown"
    INVALID_ARGUMENT = "invalid_argument"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "resource_exhausted"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    CANCELLED = "cancelled"
    UNAVAILABLE = "unavailable"
    MISCONFIGURED = "misconfigured"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Where an interrupted answer stands: what a new call needs to go on with it.

    `committed_segments` are its segments and `committed_tokens` the tokens spent on them; `text` is
    the part of its text that the caller has been given.
    """

    committed_segments: tuple[str, ...] = field(default=(), repr=False)
    committed_tokens: int = 0
    text: str = field(default="", repr=False)


class SpecFuseError(Exception):
    """Base of all errors of SpecFuse.

    `code` is the kind of error, `reason` the stable, machine-readable name (UPPER_SNAKE_CASE) of
    what went wrong; `metadata` holds its particulars as strings. Neither ever holds prompt or
    answer text. `resume` is set by the client on an error that interrupts an answer that has begun,
    `request_ids` on any error of a query: what fusers call its streams that began, and the last, as
    far as they said so.
    """

    code: ClassVar[Code] = Code.UNKNOWN
    reason: ClassVar[str] = "UNKNOWN"
    resume: ResumePoint | None = None
    request_ids: tuple[str, ...] = ()

    def __init__(self, message: str, **metadata: str) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = metadata

    @property
    def retry_after_seconds(self) -> int:
        """When asking again may succeed, in seconds from now; 0 if that is not known."""
        said = self.metadata.get("retry_after_seconds", "")
        return int(said) if said.isascii() and said.isdigit() else 0


class InvalidArgument(SpecFuseError):
    """A field of the request is wrong. Names the field, what it was and what it may be."""

    code = Code.INVALID_ARGUMENT
    reason = "INVALID_ARGUMENT"

    def __init__(self, field: str, problem: str, **metadata: str) -> None:
        super().__init__(f"{field}: {problem}", field=field, **metadata)
        self.field = field


class ContextTooLong(InvalidArgument):
    """The context and what is to follow it do not fit the model's context window.

    Where that was clear before all of it was counted, `tokens` are the least that it has.
    """

    reason = "CONTEXT_TOO_LONG"

    def __init__(self, *, tokens: int, window: int, counted: bool = True) -> None:
        least = "" if counted else "at least "
        super().__init__(
            "context",
            f"{least}{tokens} tokens do not fit the model's context window of {window}; shorten it",
            tokens=str(tokens),
            window=str(window),
            counted=str(counted).lower(),
        )


class Unauthenticated(SpecFuseError):
    """The request does not say who makes it, or does not prove it."""

    code = Code.UNAUTHENTICATED
    reason = "UNAUTHENTICATED"


class Forbidden(SpecFuseError):
    """The caller is known, but may not make this request."""

    code = Code.FORBIDDEN
    reason = "FORBIDDEN"


class NotFound(SpecFuseError):
    """The request names something that does not exist here."""

    code = Code.NOT_FOUND
    reason = "NOT_FOUND"


class RateLimited(SpecFuseError):
    """The caller has had as much as it may have for now."""

    code = Code.RATE_LIMITED
    reason = "RATE_LIMITED"


class Overloaded(SpecFuseError):
    """There is no room for the call now. Retrying later, or elsewhere, may succeed."""

    code = Code.OVERLOADED
    reason = "OVERLOADED"


class DeadlineExceeded(SpecFuseError):
    """The time the caller gave is up."""

    code = Code.DEADLINE_EXCEEDED
    reason = "DEADLINE_EXCEEDED"


class Cancelled(SpecFuseError):
    """The caller went away."""

    code = Code.CANCELLED
    reason = "CANCELLED"


class Unavailable(SpecFuseError):
    """What should answer cannot be reached. Safe to retry: every call is complete in itself."""

    code = Code.UNAVAILABLE
    reason = "UNAVAILABLE"


class ShuttingDown(Unavailable):
    """The service is draining and takes no new calls."""

    reason = "SHUTTING_DOWN"


class RevisionLost(Unavailable):
    """Replicas of a member are left, but none of the revision that a query began with.

    The query is done with the member; a new one takes whatever there is.
    """

    reason = "REVISION_LOST"


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

    code = Code.MISCONFIGURED
    reason = "MISCONFIGURED"


class Internal(SpecFuseError):
    """A broken invariant. This is a bug."""

    code = Code.INTERNAL
    reason = "INTERNAL"


class ModelFailure(Internal):
    """The model produced something that is not a probability, or failed in its forward pass."""

    reason = "MODEL_FAILURE"


def all_errors() -> Iterator[type[SpecFuseError]]:
    """The classes of all errors, each before those derived from it."""
    classes: list[type[SpecFuseError]] = [SpecFuseError]
    for cls in classes:
        yield cls
        classes += cls.__subclasses__()


def traceback_of(error: Exception) -> str:
    """The tracebacks of an error and its causes, naming foreign exceptions by type only."""
    chain: list[str] = []
    link: BaseException | None = error
    while link is not None:
        said = f": {link.message}" if isinstance(link, SpecFuseError) else ""
        frames = "".join(traceback.format_tb(link.__traceback__))
        chain.append(f"{type(link).__qualname__}{said}, raised at\n{frames}")
        link = link.__cause__ or link.__context__
    return "after ".join(chain)
