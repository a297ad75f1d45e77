"""What the chart writes for others than Kubernetes is what they take."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.chart import custom_resources
from tests.chart.release import SCENARIOS, every_scenario, needs_helm, render

needs_crds = pytest.mark.skipif(
    "SPECFUSE_CRDS" not in os.environ,
    reason="needs SPECFUSE_CRDS: a folder with the definitions of cert-manager, KEDA, ...",
)


@needs_helm
@every_scenario
def test_every_object_has_only_fields_that_are_known(scenario: str) -> None:
    for one in filter(custom_resources.is_custom, render(*SCENARIOS[scenario]).objects):
        assert custom_resources.faults(one, custom_resources.ours()) == []


@needs_helm
@needs_crds
@every_scenario
def test_the_real_definitions_take_every_object(scenario: str) -> None:
    real = custom_resources.real()
    assert real, "no definitions in SPECFUSE_CRDS"
    for one in filter(custom_resources.is_custom, render(*SCENARIOS[scenario]).objects):
        if (one["apiVersion"], one["kind"]) in real:
            assert custom_resources.faults(one, real) == []


@needs_helm
def test_every_kind_that_there_is_a_schema_for_is_written() -> None:
    written = {
        (one["apiVersion"], one["kind"])
        for values in SCENARIOS.values()
        for one in render(*values).objects
    }
    assert set(custom_resources.ours()) <= written


@needs_crds
def test_our_schemas_name_only_fields_of_the_real_definitions() -> None:
    real = custom_resources.real()
    for kind, schema in custom_resources.ours().items():
        if kind in real:
            assert set(fields(schema)) <= set(fields(real[kind]))


def fields(schema: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """`.spec.triggers[].type`, of every field that a schema names."""
    if "items" in schema:
        yield from fields(schema["items"], f"{above}[]")
    if above.endswith(".metadata"):
        return  # of an object, or of a KEDA trigger, whose keys its definition leaves open
    for name, inner in schema.get("properties", {}).items():
        yield f"{above}.{name}"
        if isinstance(inner, dict):
            yield from fields(inner, f"{above}.{name}")


def test_a_field_that_a_schema_does_not_name_is_refused() -> None:
    one = {
        "apiVersion": "cert-manager.io/v1",
        "kind": "Issuer",
        "metadata": {"name": "ca"},
        "spec": {"ca": {"secretName": "root", "secret": "root"}},
    }
    (fault,) = custom_resources.faults(one, custom_resources.ours())
    assert fault.startswith("$.spec.ca:")
