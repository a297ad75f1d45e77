"""What the model service needs of the world: a backend that runs the model, and observers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from opentelemetry.trace import Tracer

from model_service.core.types import (
    ModelDescription,
    Proposal,
    ProposeRequest,
    ScoreRequest,
    Scores,
)
from specfuse.deadline import Deadline
from specfuse.observability.tracing.spans import NO_TRACER

ForwardKind = Literal["prefill", "draft", "score"]
RemoteOutcome = Literal["ok", "refused", "overloaded", "unavailable", "failed", "cancelled"]
"""How a request to a remote server ended. `refused`: the server found it wrong."""


class Backend(Protocol):
    """Runs one model.

    Both calls are complete in themselves and may be made concurrently. Cancelling the awaiting task
    stops the work before the next decoding step; so does a passed deadline. A failed call leaves
    the others unharmed.

    Raises (both calls):
        ContextTooLong: context and segment do not fit the window.
        InvalidArgument: a candidate that encodes to nothing, a prompt the chat template refuses.
        DeadlineExceeded: the deadline passed before the work was done.
        Overloaded: memory for this call cannot be had now.
        ModelFailure: the model's numbers are not probabilities.
        Unavailable: a remote backend cannot be reached.
    """

    @property
    def model(self) -> ModelDescription:
        """What is served."""

    async def propose(self, request: ProposeRequest, deadline: Deadline) -> Proposal:
        """Drafts the next segment."""

    async def score(self, request: ScoreRequest, deadline: Deadline) -> Scores:
        """Scores every candidate, teacher-forced."""

    async def close(self) -> None:
        """Stops the backend's own threads and connections. Idempotent."""


class BackendObserver(Protocol):
    """Told by any backend what it does. Called from any thread; must be fast and must not raise."""

    def queued(self, seconds: float) -> None:
        """A call waited this long before work on it began."""

    def ingested(self, *, hit: int, miss: int) -> None:
        """Of a context's tokens, `hit` came from a cache and `miss` were computed.

        Where the model runs on a remote server, this is what the server reports.
        """


class EngineObserver(BackendObserver, Protocol):
    """Told also what an engine in this process does."""

    def forward(self, kind: ForwardKind, seconds: float, sequences: int) -> None:
        """A forward pass over `sequences` sequences took this long."""

    def cache(self, *, used_bytes: int, budget_bytes: int, sessions: int) -> None:
        """The key-value cache changed its size."""


class RemoteObserver(BackendObserver, Protocol):
    """Told also what a backend asks of the server that runs the model."""

    def requested(self, operation: str, outcome: RemoteOutcome, seconds: float) -> None:
        """A request to the server ended. `operation` is the backend's fixed word for its kind."""

    def retried(self, operation: str) -> None:
        """A request that computed nothing is made once more."""

    def served(self, *, running: int, waiting: int) -> None:
        """The server says that it works on so many requests, of all callers, and that some wait."""


class ModelObserver(EngineObserver, RemoteObserver, Protocol):
    """Told whatever any backend has to tell."""


@dataclass(frozen=True, slots=True)
class BackendHost:
    """The service around a backend: what its model is called, whom to tell, who makes spans.

    `on_loss` is called, from any thread, when the backend has lost a part of itself that only a new
    process can restore; every call fails from then on. `on_ready` is called, on the event loop,
    when what the backend depends on goes away (False) or is back (True). It is there at the start.
    """

    name: str
    observer: ModelObserver
    on_loss: Callable[[], None] = lambda: None
    on_ready: Callable[[bool], None] = lambda _ready: None
    tracer: Tracer = NO_TRACER


class ServiceObserver(Protocol):
    """Told by the service what it does. Called on the event loop; must be fast, must not raise."""

    def asked(self, session_id: str) -> None:
        """A call came that belongs to this session."""

    def admitted(self, seconds: float) -> None:
        """A call waited this long for its place among the running ones."""

    def load(self, *, waiting: int, running: int) -> None:
        """The number of calls that wait for a place, or that have one, changed."""
