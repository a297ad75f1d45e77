"""A backend's observer that remembers what it was told."""

from __future__ import annotations

from dataclasses import dataclass, field

from model_service.ports import ForwardKind, RemoteOutcome


@dataclass
class RecordingObserver:
    """Lists of everything a backend said, in order."""

    waits: list[float] = field(default_factory=list)
    forwards: list[tuple[ForwardKind, int]] = field(default_factory=list)
    hits: int = 0
    misses: int = 0
    used_bytes: int = 0
    sessions: int = 0
    requests: list[tuple[str, RemoteOutcome]] = field(default_factory=list)
    retries: list[str] = field(default_factory=list)
    loads: list[tuple[int, int]] = field(default_factory=list)

    def queued(self, seconds: float) -> None:
        self.waits.append(seconds)

    def forward(self, kind: ForwardKind, seconds: float, sequences: int) -> None:
        self.forwards.append((kind, sequences))

    def ingested(self, *, hit: int, miss: int) -> None:
        self.hits += hit
        self.misses += miss

    def cache(self, *, used_bytes: int, budget_bytes: int, sessions: int) -> None:
        self.used_bytes = used_bytes
        self.sessions = sessions

    def requested(self, operation: str, outcome: RemoteOutcome, seconds: float) -> None:
        self.requests.append((operation, outcome))

    def retried(self, operation: str) -> None:
        self.retries.append(operation)

    def served(self, *, running: int, waiting: int) -> None:
        self.loads.append((running, waiting))
