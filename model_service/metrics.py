"""What a model service counts. Every number is counted here, and nowhere else."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from model_service.ports import ForwardKind, RemoteOutcome
from specfuse.observability.buckets import PER_TOKEN_SECONDS, SEQUENCES, SHORT_SECONDS

_STAGES: Final = ("admission", "batch")
_KINDS: Final[tuple[ForwardKind, ...]] = ("prefill", "draft", "score")
_LABEL: Final = "model_name"

_LATELY_SECONDS: Final = 60.0
"""A session for which no call came for so long is not counted any more: rounds are shorter."""


class ModelMetrics:
    """Observes the service and its backend. Safe to call from any thread."""

    def __init__(
        self,
        model_name: str,
        registry: CollectorRegistry,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Registers the metrics, every label value known in advance among them at 0."""
        waits = Histogram(
            "specfuse_model_queue_duration_seconds",
            "What calls waited: for admission to the backend, then for their first batch.",
            (_LABEL, "stage"),
            buckets=SHORT_SECONDS,
            registry=registry,
        )
        forwards = Histogram(
            "specfuse_model_forward_duration_seconds",
            "Forward passes, by what they were mostly for.",
            (_LABEL, "kind"),
            buckets=PER_TOKEN_SECONDS,
            registry=registry,
        )
        tokens = Counter(
            "specfuse_model_kv_tokens",
            "Tokens of contexts: found in the key-value cache, or computed.",
            (_LABEL, "outcome"),
            registry=registry,
        )
        self._model_name = model_name
        self._requests = Histogram(
            "specfuse_model_server_request_duration_seconds",
            "Requests to the server that runs the model, by what for and how they ended.",
            (_LABEL, "operation", "outcome"),
            buckets=SHORT_SECONDS,
            registry=registry,
        )
        self._retries = Counter(
            "specfuse_model_server_retries",
            "Requests to the server that runs the model that were made once more.",
            (_LABEL, "operation"),
            registry=registry,
        )
        self._batch = Histogram(
            "specfuse_model_batch_size",
            "Sequences per forward pass.",
            (_LABEL,),
            buckets=SEQUENCES,
            registry=registry,
        ).labels(model_name)

        def gauge(name: str, documentation: str) -> Gauge:
            return Gauge(name, documentation, (_LABEL,), registry=registry).labels(model_name)

        self._waits = {stage: waits.labels(model_name, stage) for stage in _STAGES}
        self._forwards = {kind: forwards.labels(model_name, kind) for kind in _KINDS}
        self._hits = tokens.labels(model_name, "hit")
        self._misses = tokens.labels(model_name, "miss")
        self._waiting = gauge(
            "specfuse_model_requests_waiting", "Calls waiting for admission to the backend."
        )
        self._running = gauge("specfuse_model_requests_running", "Calls the backend works on.")
        self._cache_usage = gauge(
            "specfuse_model_kv_cache_usage_ratio", "Share of the key-value cache's bytes in use."
        )
        self._served = {
            state: gauge(
                f"specfuse_model_server_requests_{state}",
                f"Requests of all callers that the server that runs the model has {state}.",
            )
            for state in ("running", "waiting")
        }
        self._sessions = gauge("specfuse_model_sessions", "Contexts in the key-value cache.")
        self._asked = _Lately(clock)
        gauge(
            "specfuse_model_live_sessions",
            f"Sessions for which a call came in the last {_LATELY_SECONDS:g} seconds.",
        ).set_function(self._asked.count)

    def asked(self, session_id: str) -> None:
        """A call came that belongs to this session."""
        self._asked.seen(session_id)

    def admitted(self, seconds: float) -> None:
        """A call got its place."""
        self._waits["admission"].observe(seconds)

    def load(self, *, waiting: int, running: int) -> None:
        """The number of calls changed."""
        self._waiting.set(waiting)
        self._running.set(running)

    def queued(self, seconds: float) -> None:
        """Work on a call began."""
        self._waits["batch"].observe(seconds)

    def forward(self, kind: ForwardKind, seconds: float, sequences: int) -> None:
        """A forward pass was made."""
        self._forwards[kind].observe(seconds)
        self._batch.observe(sequences)

    def ingested(self, *, hit: int, miss: int) -> None:
        """A context was taken in."""
        self._hits.inc(hit)
        self._misses.inc(miss)

    def requested(self, operation: str, outcome: RemoteOutcome, seconds: float) -> None:
        """A request to a remote server ended."""
        self._requests.labels(self._model_name, operation, outcome).observe(seconds)

    def retried(self, operation: str) -> None:
        """A request to a remote server is made once more."""
        self._retries.labels(self._model_name, operation).inc()

    def served(self, *, running: int, waiting: int) -> None:
        """A remote server says how busy it is."""
        self._served["running"].set(running)
        self._served["waiting"].set(waiting)

    def cache(self, *, used_bytes: int, budget_bytes: int, sessions: int) -> None:
        """The key-value cache changed its size."""
        self._cache_usage.set(used_bytes / budget_bytes)
        self._sessions.set(sessions)


class _Lately:
    """Which sessions calls came for lately. Safe to use from any thread."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: OrderedDict[str, float] = OrderedDict()

    def seen(self, session_id: str) -> None:
        with self._lock:
            self._seen[session_id] = self._clock()
            self._seen.move_to_end(session_id)
            self._forget()

    def count(self) -> int:
        with self._lock:
            self._forget()
            return len(self._seen)

    def _forget(self) -> None:
        """Drops those that were seen too long ago: they are in the order of their last call."""
        since = self._clock() - _LATELY_SECONDS
        while self._seen and next(iter(self._seen.values())) <= since:
            self._seen.popitem(last=False)
