"""The names, labels and bucket edges that dashboards and alerts are written against."""

from __future__ import annotations

from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as open_metrics

from fuser_service.core.types import Departure, DepartureReason
from fuser_service.metrics import FuserMetrics
from fuser_service.service import EnsembleStatus
from fuser_service.tenancy.account import Account
from tests.support.recorded_spans import RecordedSpans

METRICS = {
    "specfuse_round_duration_seconds": ("histogram", {"ensemble", "phase"}),
    "specfuse_member_call_duration_seconds": ("histogram", {"model_name", "rpc"}),
    "specfuse_member_calls": ("counter", {"model_name", "rpc", "outcome"}),
    "specfuse_member_calls_avoided": ("counter", {"model_name", "reason"}),
    "specfuse_member_second_calls": ("counter", {"model_name", "reason"}),
    "specfuse_member_revisions": ("gauge", {"model_name"}),
    "specfuse_member_revisions_lost": ("counter", {"model_name"}),
    "specfuse_rounds_per_request": ("histogram", {"ensemble"}),
    "specfuse_segment_wins": ("counter", {"ensemble", "model_name"}),
    "specfuse_member_exits": ("counter", {"ensemble", "model_name", "reason"}),
    "specfuse_member_recalls": ("counter", {"ensemble", "model_name"}),
    "specfuse_member_ready": ("gauge", {"model_name"}),
    "specfuse_member_may_sleep": ("gauge", {"model_name"}),
    "specfuse_ensemble_ready": ("gauge", {"ensemble"}),
    "specfuse_ensemble_ready_members": ("gauge", {"ensemble"}),
    "specfuse_ensemble_quorum": ("gauge", {"ensemble"}),
    "specfuse_member_sessions": ("gauge", {"model_name"}),
    "specfuse_active_members": ("histogram", {"ensemble"}),
    "specfuse_straggler_wait_seconds": ("histogram", {"ensemble"}),
    "specfuse_time_to_first_segment_seconds": ("histogram", {"ensemble"}),
    "specfuse_time_per_output_token_seconds": ("histogram", {"ensemble"}),
    "specfuse_request_duration_seconds": ("histogram", {"ensemble", "outcome"}),
    "specfuse_requests_in_flight": ("gauge", set()),
    "specfuse_output_tokens": ("counter", {"ensemble", "team"}),
    "specfuse_discarded_tokens": ("counter", {"ensemble", "model_name"}),
    "specfuse_passes": ("counter", {"ensemble", "model_name"}),
    "specfuse_drafts_ahead": ("counter", {"ensemble", "outcome"}),
    "specfuse_prompt_tokens": ("counter", {"ensemble", "team"}),
    "specfuse_team_requests": ("counter", {"ensemble", "team", "outcome"}),
    "specfuse_team_calls": ("counter", {"ensemble", "team"}),
    "specfuse_team_calls_avoided": ("counter", {"ensemble", "team"}),
    "specfuse_anonymous_allowed": ("gauge", set()),
    "specfuse_requests_waiting": ("gauge", set()),
    "specfuse_ensemble_sessions": ("gauge", {"ensemble"}),
    "specfuse_requests_waking": ("gauge", {"ensemble"}),
    "specfuse_keys": ("gauge", set()),
    "specfuse_limit_store_failures": ("counter", set()),
    "specfuse_accounting_lines_lost": ("counter", set()),
    "specfuse_http_responses": ("counter", {"route", "status"}),
}
SHORT = ".001 .005 .01 .02 .04 .06 .08 .1 .25 .5 .75 1 2.5 5 7.5 10 20 40 80 160 640 2560"
PER_TOKEN = ".01 .025 .05 .075 .1 .15 .2 .3 .4 .5 .75 1 2.5 5 7.5 10 20 40 80"
REQUEST = ".3 .5 .8 1 1.5 2 2.5 5 10 15 20 30 40 50 60 120 240 480 960 1920 7680"


REFUSED = Account(
    request_id="r", team="", key="", ensemble="", outcome="unauthenticated", seconds=0.0
)


ALL = EnsembleStatus("all", ("a", "b"), ready_members=("b",), quorum=2, max_tokens_limit=9)
EXIT = {"ensemble": "all", "model_name": "a"}
TEAM = {"ensemble": "all", "team": "search"}


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> FuserMetrics:
    return FuserMetrics(
        registry, members=["a", "b"], ensembles={"all": ["a", "b"]}, teams=["search"]
    )


def test_names_kinds_and_labels(registry: CollectorRegistry, metrics: FuserMetrics) -> None:
    metrics.call_ended("a", "propose", "ok", 0.1)
    metrics.book(REFUSED)
    metrics.standing([ALL])
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
        ("specfuse_segment_wins_total", {"ensemble": "all", "model_name": "b"}),
        ("specfuse_member_sessions", {"model_name": "b"}),
        ("specfuse_requests_waking", {"ensemble": "all"}),
        ("specfuse_ensemble_sessions", {"ensemble": "all"}),
        ("specfuse_member_exits_total", EXIT | {"reason": "straggler"}),
        ("specfuse_member_recalls_total", {"ensemble": "all", "model_name": "a"}),
        ("specfuse_discarded_tokens_total", {"ensemble": "all", "model_name": "a"}),
        ("specfuse_passes_total", {"ensemble": "all", "model_name": "a"}),
        ("specfuse_drafts_ahead_total", {"ensemble": "all", "outcome": "dropped"}),
        ("specfuse_team_requests_total", TEAM | {"outcome": "rate_limited"}),
        ("specfuse_member_calls_avoided_total", {"model_name": "a", "reason": "duplicate"}),
        ("specfuse_member_second_calls_total", {"model_name": "b", "reason": "hedged"}),
        ("specfuse_member_revisions", {"model_name": "b"}),
        ("specfuse_member_revisions_lost_total", {"model_name": "b"}),
        ("specfuse_output_tokens_total", {"ensemble": "all", "team": "anonymous"}),
        ("specfuse_request_duration_seconds_count", {"ensemble": "all", "outcome": "unavailable"}),
        ("specfuse_round_duration_seconds_count", {"ensemble": "all", "phase": "score"}),
    ):
        assert registry.get_sample_value(name, labels) == 0


def test_what_is_observed_is_counted(registry: CollectorRegistry, metrics: FuserMetrics) -> None:
    metrics.calls_avoided("a", "exit", 2)
    metrics.second_call("b", "moved")
    metrics.revision_lost("b")
    metrics.watch_revisions("a", lambda: 2)
    metrics.tokens_discarded("all", "b", 7)
    metrics.passes_made("all", "b", 11)
    metrics.drafted_ahead("all", used=True)
    metrics.drafted_ahead("all", used=True)
    metrics.drafted_ahead("all", used=False)
    metrics.member_left("all", Departure("b", DepartureReason.EXIT))
    metrics.members_recalled("all", ("a", "b"))
    metrics.straggler_waited("all", 0.3)
    metrics.request_started()
    metrics.session_began("a")
    metrics.session_began("a")
    metrics.session_ended("a")
    metrics.hold_began("all")
    metrics.hold_began("all")
    metrics.hold_ended("all")
    metrics.query_began("all")
    metrics.query_began("all")
    metrics.query_ended("all")

    value = registry.get_sample_value
    exit_ = {"model_name": "a", "reason": "exit"}
    assert value("specfuse_member_calls_avoided_total", exit_) == 2
    moved = {"model_name": "b", "reason": "moved"}
    assert value("specfuse_member_second_calls_total", moved) == 1
    assert value("specfuse_member_revisions_lost_total", {"model_name": "b"}) == 1
    assert value("specfuse_member_revisions", {"model_name": "a"}) == 2
    part = {"ensemble": "all", "model_name": "b"}
    assert value("specfuse_discarded_tokens_total", part) == 7
    assert value("specfuse_passes_total", part) == 11
    for outcome, drafts in (("used", 2), ("dropped", 1)):
        ahead = {"ensemble": "all", "outcome": outcome}
        assert value("specfuse_drafts_ahead_total", ahead) == drafts
    assert value("specfuse_member_exits_total", part | {"reason": "exit"}) == 1
    assert value("specfuse_member_recalls_total", part) == 1
    assert value("specfuse_straggler_wait_seconds_sum", {"ensemble": "all"}) == 0.3
    assert value("specfuse_member_sessions", {"model_name": "a"}) == 1
    assert value("specfuse_requests_waking", {"ensemble": "all"}) == 1
    assert value("specfuse_ensemble_sessions", {"ensemble": "all"}) == 1
    assert value("specfuse_requests_in_flight") == 1
    metrics.request_ended("", "cancelled", 1.0)
    assert value("specfuse_requests_in_flight") == 0


def test_what_a_request_came_to_counts_for_its_team(
    registry: CollectorRegistry, metrics: FuserMetrics
) -> None:
    answered = replace(
        REFUSED,
        team="search",
        ensemble="all",
        outcome="ok",
        prompt_tokens=5,
        calls_made=4,
        calls_avoided=2,
    )
    for account in (REFUSED, answered, answered, replace(answered, outcome="cancelled")):
        metrics.book(account)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    search = {"ensemble": "all", "team": "search"}
    assert value("specfuse_team_requests_total", **search, outcome="ok") == 2
    assert value("specfuse_team_requests_total", **search, outcome="cancelled") == 1
    assert value("specfuse_prompt_tokens_total", **search) == 15
    assert value("specfuse_team_calls_total", **search) == 12
    assert value("specfuse_team_calls_avoided_total", **search) == 6
    nobody = {"ensemble": "unknown", "team": "unknown"}
    assert value("specfuse_team_requests_total", **nobody, outcome="unauthenticated") == 1
    assert value("specfuse_prompt_tokens_total", **nobody) is None


def test_who_can_be_asked_is_told_as_it_changes(
    registry: CollectorRegistry, metrics: FuserMetrics
) -> None:
    def ensemble(name: str) -> tuple[float | None, ...]:
        gauges = ("ready", "ready_members", "quorum")
        labels = {"ensemble": name}
        return tuple(registry.get_sample_value(f"specfuse_ensemble_{g}", labels) for g in gauges)

    def members(gauge: str) -> dict[str, float | None]:
        name = f"specfuse_member_{gauge}"
        return {m: registry.get_sample_value(name, {"model_name": m}) for m in "abc"}

    waking = EnsembleStatus("waking", ("b", "c"), (), quorum=1, max_tokens_limit=9, wakes=True)
    metrics.standing([ALL, waking])
    assert (ensemble("all"), ensemble("waking")) == ((0, 1, 2), (1, 0, 1))
    assert members("ready") == {"a": 0, "b": 1, "c": 0}
    assert members("may_sleep") == {"a": 0, "b": 0, "c": 1}, "of all waits for b, too"

    metrics.standing([replace(ALL, ready_members=("a", "b"))])
    assert (ensemble("all"), ensemble("waking")) == ((1, 2, 2), (None, None, None))
    assert members("ready") == {"a": 1, "b": 1, "c": None}, "nobody can ask for c any more"
    assert members("may_sleep") == {"a": 0, "b": 0, "c": None}


def test_times_of_rounds_and_requests_lead_to_their_trace(
    registry: CollectorRegistry, metrics: FuserMetrics
) -> None:
    def observe() -> None:
        metrics.phase_ended("all", "propose", 0.3)
        metrics.straggler_waited("all", 0.3)
        metrics.first_segment("all", 0.3)
        metrics.request_ended("all", "ok", 0.4)

    def led() -> list[str]:
        lines = open_metrics(registry).decode().splitlines()
        return [line for line in lines if "trace_id" in line]

    observe()
    assert not led(), "whoever is not traced has no trace to lead to"
    with RecordedSpans().caller() as caller:
        observe()
    trace = f"{caller.get_span_context().trace_id:032x}"
    assert {line.partition("_bucket{")[0] for line in led()} == {
        "specfuse_round_duration_seconds",
        "specfuse_straggler_wait_seconds",
        "specfuse_time_to_first_segment_seconds",
        "specfuse_request_duration_seconds",
    }
    assert all(f'# {{trace_id="{trace}"}} 0.' in line for line in led())
    assert b"trace_id" not in generate_latest(registry), "the text format has no exemplars"
