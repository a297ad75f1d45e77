"""What a model service exports."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from model_service.metrics import ModelMetrics

EXPORTED = {
    "specfuse_model_queue_duration_seconds",
    "specfuse_model_requests_waiting",
    "specfuse_model_requests_running",
    "specfuse_model_batch_size",
    "specfuse_model_forward_duration_seconds",
    "specfuse_model_kv_cache_usage_ratio",
    "specfuse_model_kv_tokens",
    "specfuse_model_sessions",
    "specfuse_model_live_sessions",
}
OF_A_SERVER = {
    "specfuse_model_server_request_duration_seconds",
    "specfuse_model_server_requests_running",
    "specfuse_model_server_requests_waiting",
    "specfuse_model_server_retries",
}
"""Whose labels the backend chooses."""


def test_names_and_labels_are_known_before_anything_happens() -> None:
    registry = CollectorRegistry()
    ModelMetrics("llama", registry)
    families = {family.name: family for family in registry.collect()}
    assert families.keys() == EXPORTED | OF_A_SERVER
    for name in EXPORTED:
        family = families[name]
        assert family.samples, name
        assert all(sample.labels["model_name"] == "llama" for sample in family.samples)


def test_observations_are_counted() -> None:
    registry = CollectorRegistry()
    metrics = ModelMetrics("llama", registry)
    metrics.admitted(0.5)
    metrics.load(waiting=3, running=2)
    metrics.queued(0.25)
    metrics.forward("draft", 0.125, sequences=4)
    metrics.ingested(hit=10, miss=5)
    metrics.cache(used_bytes=25, budget_bytes=100, sessions=7)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"specfuse_model_{name}", {"model_name": "llama"} | labels)

    assert value("queue_duration_seconds_sum", stage="admission") == 0.5
    assert value("queue_duration_seconds_sum", stage="batch") == 0.25
    assert (value("requests_waiting"), value("requests_running")) == (3, 2)
    assert value("forward_duration_seconds_sum", kind="draft") == 0.125
    assert value("forward_duration_seconds_count", kind="score") == 0
    assert value("batch_size_sum") == 4
    assert value("kv_tokens_total", outcome="hit") == 10
    assert value("kv_tokens_total", outcome="miss") == 5
    assert (value("kv_cache_usage_ratio"), value("sessions")) == (0.25, 7)
    metrics.requested("generate", "failed", 0.75)
    metrics.retried("generate")
    assert (
        value("server_request_duration_seconds_sum", operation="generate", outcome="failed") == 0.75
    )
    assert value("server_retries_total", operation="generate") == 1
    assert b"specfuse_model_kv_tokens_total" in generate_latest(registry)


def test_a_session_is_live_for_a_minute_after_its_last_call() -> None:
    registry, now = CollectorRegistry(), [1000.0]
    metrics = ModelMetrics("llama", registry, lambda: now[0])

    def live() -> float | None:
        return registry.get_sample_value("specfuse_model_live_sessions", {"model_name": "llama"})

    assert live() == 0
    metrics.asked("one")
    now[0] += 50
    metrics.asked("two")
    metrics.asked("one")
    metrics.asked("three")
    assert live() == 3
    now[0] += 59
    metrics.asked("two")
    assert live() == 3
    now[0] += 1
    assert live() == 1
    now[0] += 59
    assert live() == 0
