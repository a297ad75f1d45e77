"""The names, labels and bucket edges that dashboards and alerts are written against."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from fuser_service.core.types import Departure, DepartureReason
from fuser_service.metrics import FuserMetrics

METRICS = {
    "specfuse_round_duration_seconds": ("histogram", {"ensemble", "phase"}),
    "specfuse_member_call_duration_seconds": ("histogram", {"model_name", "rpc"}),
    "specfuse_member_calls": ("counter", {"model_name", "rpc", "outcome"}),
    "specfuse_member_calls_avoided": ("counter", {"model_name", "reason"}),
    "specfuse_member_second_calls": ("counter", {"model_name", "reason"}),
    "specfuse_rounds_per_request": ("histogram", set()),
    "specfuse_segment_wins": ("counter", {"model_name"}),
    "specfuse_member_exits": ("counter", {"model_name", "reason"}),
    "specfuse_active_members": ("histogram", set()),
    "specfuse_straggler_wait_seconds": ("histogram", set()),
    "specfuse_time_to_first_segment_seconds": ("histogram", set()),
    "specfuse_time_per_output_token_seconds": ("histogram", set()),
    "specfuse_request_duration_seconds": ("histogram", {"outcome"}),
    "specfuse_requests_in_flight": ("gauge", set()),
    "specfuse_output_tokens": ("counter", {"ensemble", "team"}),
    "specfuse_discarded_tokens": ("counter", {"model_name"}),
    "specfuse_http_responses": ("counter", {"route", "status"}),
}
SHORT = ".001 .005 .01 .02 .04 .06 .08 .1 .25 .5 .75 1 2.5 5 7.5 10 20 40 80 160 640 2560"
PER_TOKEN = ".01 .025 .05 .075 .1 .15 .2 .3 .4 .5 .75 1 2.5 5 7.5 10 20 40 80"
REQUEST = ".3 .5 .8 1 1.5 2 2.5 5 10 15 20 30 40 50 60 120 240 480 960 1920 7680"


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> FuserMetrics:
    return FuserMetrics(registry, members=["a", "b"], ensembles=["all"], teams=["search"])


def test_names_kinds_and_labels(registry: CollectorRegistry, metrics: FuserMetrics) -> None:
    metrics.call_ended("a", "propose", "ok", 0.1)
    metrics.http_responded("/v1/models", 200)
    found = {
        family.name: (
            family.type,
            {label for sample in family.samples for label in sample.labels} - {"le"},
        )
        for family in registry.collect()
    }
    assert found == METRICS


@pytest.mark.parametrize(
    ("name", "edges"),
    [
        ("specfuse_round_duration_seconds", SHORT),
        ("specfuse_member_call_duration_seconds", SHORT),
        ("specfuse_straggler_wait_seconds", SHORT),
        ("specfuse_time_to_first_segment_seconds", SHORT),
        ("specfuse_time_per_output_token_seconds", PER_TOKEN),
        ("specfuse_request_duration_seconds", REQUEST),
    ],
)
def test_bucket_edges_are_those_of_vllm(
    registry: CollectorRegistry, metrics: FuserMetrics, name: str, edges: str
) -> None:
    metrics.call_ended("a", "propose", "ok", 0.1)
    (family,) = (family for family in registry.collect() if family.name == name)
    found = [sample.labels["le"] for sample in family.samples if sample.name == f"{name}_bucket"]
    expected = [*map(float, edges.split()), float("inf")]
    assert [float(edge) for edge in found][: len(expected)] == expected


def test_counters_exist_before_anything_happened(
    registry: CollectorRegistry, metrics: FuserMetrics
) -> None:
    for name, labels in (
        ("specfuse_segment_wins_total", {"model_name": "b"}),
        ("specfuse_member_exits_total", {"model_name": "a", "reason": "straggler"}),
        ("specfuse_member_calls_avoided_total", {"model_name": "a", "reason": "duplicate"}),
        ("specfuse_member_second_calls_total", {"model_name": "b", "reason": "hedged"}),
        ("specfuse_output_tokens_total", {"ensemble": "all", "team": "other"}),
        ("specfuse_request_duration_seconds_count", {"outcome": "unavailable"}),
        ("specfuse_round_duration_seconds_count", {"ensemble": "all", "phase": "score"}),
    ):
        assert registry.get_sample_value(name, labels) == 0


def test_what_is_observed_is_counted(registry: CollectorRegistry, metrics: FuserMetrics) -> None:
    metrics.calls_avoided("a", "exit", 2)
    metrics.second_call("b", "moved")
    metrics.tokens_discarded("b", 7)
    metrics.member_left(Departure("b", DepartureReason.EXIT))
    metrics.straggler_waited(0.3)
    metrics.request_started()

    value = registry.get_sample_value
    exit_ = {"model_name": "a", "reason": "exit"}
    assert value("specfuse_member_calls_avoided_total", exit_) == 2
    moved = {"model_name": "b", "reason": "moved"}
    assert value("specfuse_member_second_calls_total", moved) == 1
    assert value("specfuse_discarded_tokens_total", {"model_name": "b"}) == 7
    assert value("specfuse_member_exits_total", {"model_name": "b", "reason": "exit"}) == 1
    assert value("specfuse_straggler_wait_seconds_sum") == 0.3
    assert value("specfuse_requests_in_flight") == 1
    metrics.request_ended("cancelled", 1.0)
    assert value("specfuse_requests_in_flight") == 0


def test_teams_that_nobody_configured_share_one_label(
    registry: CollectorRegistry, metrics: FuserMetrics
) -> None:
    for team in ("search", "", "made up", "x" * 5000):
        metrics.tokens_committed("all", team, 1)
    (family,) = (one for one in registry.collect() if one.name == "specfuse_output_tokens")
    totals = {
        sample.labels["team"]: sample.value
        for sample in family.samples
        if sample.name.endswith("_total")
    }
    assert totals == {"search": 1, "other": 3}
