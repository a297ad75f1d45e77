"""What the model service needs of the world: a backend that runs the model, and observers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from model_service.core.types import (
        ModelDescription,
        Proposal,
        ProposeRequest,
        ScoreRequest,
        Scores,
    )
    from specfuse.rpc.deadline import Deadline

ForwardKind = Literal["prefill", "draft", "score"]


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
    """Told by a backend what it does. Called from any thread; must be fast and must not raise."""

    def queued(self, seconds: float) -> None:
        """A call waited this long for its first forward pass."""

    def forward(self, kind: ForwardKind, seconds: float, sequences: int) -> None:
        """A forward pass over `sequences` sequences took this long."""

    def ingested(self, *, hit: int, miss: int) -> None:
        """Of a context's tokens, `hit` came from the cache and `miss` were computed."""

    def cache(self, *, used_bytes: int, budget_bytes: int, sessions: int) -> None:
        """The key-value cache changed its size."""


class ServiceObserver(Protocol):
    """Told by the service what it does. Called on the event loop; must be fast, must not raise."""

    def admitted(self, seconds: float) -> None:
        """A call waited this long for its place among the running ones."""

    def load(self, *, waiting: int, running: int) -> None:
        """The number of calls that wait for a place, or that have one, changed."""
