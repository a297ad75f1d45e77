"""Every supported version of Kubernetes takes what the chart writes, and Helm its form."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest

from deploy.helm.generate import helm, made
from tests.chart import kubernetes_schemas
from tests.chart.custom_resources import is_custom
from tests.chart.kubernetes_schemas import VERSIONS
from tests.chart.release import BASE, SCENARIOS, every_scenario, needs_helm, nulls, outcome, render

SINCE: Final = {"accelerators": "1.34"}
"""From which version on Kubernetes can do what a scenario needs; older ones are refused."""

DEPLOYMENT: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "a"},
    "spec": {"selector": {}, "template": {"spec": {"containers": [{"name": "a"}]}}},
}


@needs_helm
@every_scenario
@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_takes_every_object(scenario: str, version: str) -> None:
    if version < SINCE.get(scenario, version):
        assert "and devices are allocated" in outcome(
            *SCENARIOS[scenario], more=(f"--kube-version={version}.0",)
        )
        return
    for one in render(*SCENARIOS[scenario]).objects:
        if not is_custom(one):
            assert kubernetes_schemas.faults(one, version) == [], one["metadata"]["name"]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_field_that_a_version_does_not_know_is_found(version: str) -> None:
    assert kubernetes_schemas.faults(DEPLOYMENT, version) == []
    container = {"name": "a", "volumeMount": []}
    wrong = DEPLOYMENT | {
        "spec": {"selector": {}, "template": {"spec": {"containers": [container]}}}
    }
    (fault,) = kubernetes_schemas.faults(wrong, version)
    assert "volumeMount" in fault


def test_a_kind_that_a_version_does_not_have_is_found() -> None:
    claim = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaimTemplate",
        "spec": {"spec": {}},
    }
    assert kubernetes_schemas.faults(claim, "1.33") == [
        "Kubernetes 1.33 has no ResourceClaimTemplate of resource.k8s.io/v1"
    ]
    assert kubernetes_schemas.faults(claim, "1.34") == []


@needs_helm
@every_scenario
def test_nothing_is_left_empty(scenario: str) -> None:
    """An empty key is taken for `null`, which Kubernetes drops without a word."""
    for one in render(*SCENARIOS[scenario]).objects:
        assert list(nulls(one)) == [], one["metadata"]["name"]


@needs_helm
@every_scenario
def test_no_object_is_there_twice_and_all_are_in_the_release_s_namespace(scenario: str) -> None:
    release = render(*SCENARIOS[scenario])
    assert len(set(release.names())) == len(release.names())
    for one in release.objects:
        assert one["metadata"].get("namespace", helm.NAME) == helm.NAME


@needs_helm
@every_scenario
def test_helm_lints_it_strictly(scenario: str) -> None:
    values = [f"--values={file}" for file in SCENARIOS[scenario]]
    said = helm.run("lint", "--strict", str(made.CHART), *values, "--kube-version=1.35.0")
    assert "[WARNING]" not in said


@needs_helm
def test_it_packs_and_the_package_renders_the_same(tmp_path: Path) -> None:
    helm.run("package", str(made.CHART), "--destination", str(tmp_path))
    (package,) = tmp_path.iterdir()
    assert helm.template(package, [BASE]) == render(BASE).text
