"""What the services export, as their registries have it."""

from __future__ import annotations

from deploy.monitoring import series


def test_labels_are_found_also_where_nothing_has_been_counted() -> None:
    found = {one.name: one for one in series.fuser()}
    assert found["specfuse_http_responses"].labels == ("route", "status")
    assert found["specfuse_http_responses"].values == {}


def test_values_of_labels_are_those_known_in_advance() -> None:
    found = {one.name: one for one in series.fuser()}
    rounds = found["specfuse_round_duration_seconds"]
    assert rounds.labels == ("ensemble", "phase")
    assert rounds.values == {"phase": ("propose", "score", "total")}


def test_names_are_those_of_queries() -> None:
    names = series.names()
    assert "specfuse_segment_wins_total" in names
    assert "specfuse_round_duration_seconds_bucket" in names
    assert "specfuse_model_requests_waiting" in names
    assert "specfuse_tls_certificate_expiry_timestamp_seconds" in names
    assert not {"specfuse_segment_wins", "specfuse_round_duration_seconds"} & names


def test_units_follow_from_names() -> None:
    every = (*series.fuser(), *series.model(), *series.both())
    units = {one.name: one.unit for one in every}
    assert units["specfuse_straggler_wait_seconds"] == "seconds"
    assert units["specfuse_discarded_tokens"] == "tokens"
    assert units["specfuse_model_kv_cache_usage_ratio"] == "0 to 1"
    assert units["specfuse_tls_certificate_expiry_timestamp_seconds"] == "seconds since 1970"
    assert units["specfuse_requests_in_flight"] == ""
