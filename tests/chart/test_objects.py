"""Names, labels and selectors, and what refers to them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.chart.release import (
    BASE,
    SCENARIOS,
    Object,
    Release,
    every_scenario,
    needs_helm,
    outcome,
    render,
)

LONG = "a-release-whose-name-is-as-long-as-helm-lets-it-be-53"
LONG_MODEL = "m" * 40
LABEL = re.compile(r"([a-z0-9]([a-z0-9-]*[a-z0-9])?)")
VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?)?")
SELECTING = ("Deployment", "StatefulSet")
AUTOSCALERS = ("HorizontalPodAutoscaler", "ScaledObject")

pytestmark = needs_helm


def selectors(release: Release) -> dict[str, Mapping[str, str]]:
    """What can never be changed of an object that is there."""
    return {
        f"{one['kind']} {one['metadata']['name']}": one["spec"]["selector"]["matchLabels"]
        for one in release.of(*SELECTING)
    }


def replicas(release: Release) -> dict[str, int | None]:
    return {one["metadata"]["name"]: one["spec"].get("replicas") for one in release.of(*SELECTING)}


def scaled(release: Release) -> set[str]:
    """The names of what an autoscaler scales."""
    return {one["spec"]["scaleTargetRef"]["name"] for one in release.of(*AUTOSCALERS)}


@every_scenario
def test_selectors_say_nothing_that_an_upgrade_changes(scenario: str) -> None:
    for selector in selectors(render(*SCENARIOS[scenario])).values():
        assert selector.keys() <= {
            "app.kubernetes.io/name",
            "app.kubernetes.io/instance",
            "app.kubernetes.io/component",
            "specfuse.io/member",
        }


def test_selectors_stay_whatever_is_changed_of_a_release() -> None:
    before = selectors(render(BASE))
    changes: Mapping[str, Any] = {
        "commonLabels": {"a": "b"},
        "image": {"tag": "9.9.9"},
        "models": {"llama": {"podLabels": {"a": "b"}, "schedulerName": "x", "gpu": {"count": 1}}},
        "fuser": {"podLabels": {"a": "b"}, "replicas": 4},
    }
    assert selectors(render(BASE, changes, more=("--is-upgrade",))) == before


@every_scenario
def test_selectors_of_different_objects_select_different_pods(scenario: str) -> None:
    release = render(*SCENARIOS[scenario])
    for selector in selectors(release).values():
        selected = [pod for pod in release.pods() if selector.items() <= pod.labels.items()]
        assert len(selected) == 1


@every_scenario
def test_a_service_selects_pods_that_have_its_ports(scenario: str) -> None:
    release = render(*SCENARIOS[scenario])
    for service in release.of("Service"):
        selector = service["spec"]["selector"]
        pods = [pod for pod in release.pods() if selector.items() <= pod.labels.items()]
        assert len(pods) == 1, service["metadata"]["name"]
        ports = {port["name"] for one in pods[0].containers() for port in one.get("ports", ())}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


@every_scenario
def test_a_disruption_budget_and_a_monitor_select_pods_that_there_are(scenario: str) -> None:
    release = render(*SCENARIOS[scenario])
    for one in release.of("PodDisruptionBudget", "PodMonitor"):
        wanted = one["spec"]["selector"]["matchLabels"]
        assert any(wanted.items() <= pod.labels.items() for pod in release.pods()), one["kind"]


@every_scenario
def test_a_scaler_and_a_route_lead_to_what_there_is(scenario: str) -> None:
    release = render(*SCENARIOS[scenario])
    assert scaled(release) <= set(replicas(release))
    services = {
        one["metadata"]["name"]: {port["port"] for port in one["spec"]["ports"]}
        for one in release.of("Service")
    }
    for one in release.of("HTTPRoute", "GRPCRoute"):
        for rule in one["spec"]["rules"]:
            for backend in rule["backendRefs"]:
                assert backend["port"] in services[backend["name"]]


@every_scenario
def test_replicas_are_left_to_an_autoscaler_and_given_where_there_is_none(scenario: str) -> None:
    release = render(*SCENARIOS[scenario])
    for name, number in replicas(release).items():
        assert (number is None) == (name in scaled(release)), name


@every_scenario
def test_names_and_labels_are_what_kubernetes_takes(scenario: str) -> None:
    check_names(render(*SCENARIOS[scenario]))


@pytest.mark.parametrize("name", ["true", "123", "1e3", "null"])
def test_a_release_and_a_namespace_may_be_called_what_yaml_takes_for_something_else(
    name: str,
) -> None:
    release = render(BASE, {"fullnameOverride": "mesh"}, name=name, more=(f"--namespace={name}",))
    check_names(release)
    assert {one["metadata"]["namespace"] for one in release.objects} == {name}


def test_what_is_asked_of_devices_can_be_changed() -> None:
    """A template of claims never can, so one that asks for something else has another name."""

    def template(**claim: Any) -> str:
        claim = {"deviceClass": "gpu.example", **claim}
        release = render(BASE, {"models": {"llama": {"gpu": {"claim": claim}}}})
        (made,) = release.of("ResourceClaimTemplate")
        (pod,) = [one for one in release.pods() if one.owner.endswith("-model-llama")]
        (used,) = pod.spec["resourceClaims"]
        assert used["resourceClaimTemplateName"] == made["metadata"]["name"]
        name: str = made["metadata"]["name"]
        return name

    assert template() == template()
    assert len({template(), template(count=2), template(selectors=["device.driver == 'a'"])}) == 3


@pytest.mark.parametrize("values", [{}, {"models": {f"{LONG_MODEL}a": {}, f"{LONG_MODEL}b": {}}}])
def test_names_that_would_be_too_long_are_refused_with_the_remedy(
    values: Mapping[str, Any],
) -> None:
    assert "fullnameOverride" in outcome(BASE, values, name=LONG)


def test_the_remedy_for_names_that_would_be_too_long_helps() -> None:
    check_names(render(BASE, {"fullnameOverride": "mesh"}, name=LONG))


def check_names(release: Release) -> None:
    for one in release.objects:
        name = one["metadata"]["name"]
        assert len(name) <= 63, name
        assert all(LABEL.fullmatch(part) for part in name.split(".")), name
        for key, value in labels(one):
            assert len(key.rpartition("/")[2]) <= 63, key
            assert len(value) <= 63, f"{key}: {value}"
            assert VALUE.fullmatch(value), f"{key}: {value}"
    for pod in release.pods():
        ports = [port for one in pod.containers() for port in one.get("ports", ())]
        assert all(len(port["name"]) <= 15 for port in ports)
        assert len({port["containerPort"] for port in ports}) == len(ports), pod.owner


def labels(one: Object) -> Iterator[tuple[str, str]]:
    """All labels of an object and of the pods that it makes."""
    yield from one["metadata"].get("labels", {}).items()
    yield from one.get("spec", {}).get("template", {}).get("metadata", {}).get("labels", {}).items()


@every_scenario
def test_every_object_has_the_labels_that_all_charts_have(scenario: str) -> None:
    wanted = {"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/version"}
    wanted |= {"app.kubernetes.io/managed-by", "app.kubernetes.io/part-of", "helm.sh/chart"}
    release = render(*SCENARIOS[scenario])
    for one in release.own:
        assert wanted <= one["metadata"].get("labels", {}).keys(), one["metadata"]["name"]
