"""What a model service counts. Every number is counted here, and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import Counter, Gauge, Histogram

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from model_service.ports import ForwardKind

# The edges that vLLM's dashboards are used to: of its time to first token, and between tokens.
_WAIT_SECONDS: Final = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
_FORWARD_SECONDS: Final = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
_SEQUENCES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_STAGES: Final = ("admission", "batch")
_KINDS: Final[tuple[ForwardKind, ...]] = ("prefill", "draft", "score")
_LABEL: Final = "model_name"


class ModelMetrics:
    """Observes the service and its backend. Safe to call from any thread."""

    def __init__(self, model_name: str, registry: CollectorRegistry) -> None:
        """Registers the metrics, every label value known in advance among them at 0."""
        waits = Histogram(
            "specfuse_model_queue_duration_seconds",
            "What calls waited: for admission to the backend, then for their first batch.",
            (_LABEL, "stage"),
            buckets=_WAIT_SECONDS,
            registry=registry,
        )
        forwards = Histogram(
            "specfuse_model_forward_duration_seconds",
            "Forward passes, by what they were mostly for.",
            (_LABEL, "kind"),
            buckets=_FORWARD_SECONDS,
            registry=registry,
        )
        tokens = Counter(
            "specfuse_model_kv_tokens",
            "Tokens of contexts: found in the key-value cache, or computed.",
            (_LABEL, "outcome"),
            registry=registry,
        )
        self._batch = Histogram(
            "specfuse_model_batch_size",
            "Sequences per forward pass.",
            (_LABEL,),
            buckets=_SEQUENCES,
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
        self._sessions = gauge("specfuse_model_sessions", "Contexts in the key-value cache.")

    def admitted(self, seconds: float) -> None:
        """A call got its place."""
        self._waits["admission"].observe(seconds)

    def load(self, *, waiting: int, running: int) -> None:
        """The number of calls changed."""
        self._waiting.set(waiting)
        self._running.set(running)

    def queued(self, seconds: float) -> None:
        """A call had its first forward pass."""
        self._waits["batch"].observe(seconds)

    def forward(self, kind: ForwardKind, seconds: float, sequences: int) -> None:
        """A forward pass was made."""
        self._forwards[kind].observe(seconds)
        self._batch.observe(sequences)

    def ingested(self, *, hit: int, miss: int) -> None:
        """A context was taken in."""
        self._hits.inc(hit)
        self._misses.inc(miss)

    def cache(self, *, used_bytes: int, budget_bytes: int, sessions: int) -> None:
        """The key-value cache changed its size."""
        self._cache_usage.set(used_bytes / budget_bytes)
        self._sessions.set(sessions)
