"""What Kubernetes refuses of pods and their owners though every field is of the right type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import pytest

from tests.chart.release import BASE, SCENARIOS, Object, Pod, every_scenario, needs_helm, render

pytestmark = needs_helm

UNITS: Final = {"": 1, "m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
STANDARD: Final = ("pods", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory")
PROBES: Final = ("startupProbe", "readinessProbe", "livenessProbe")


def amount(quantity: object) -> float:
    """The number that a quantity of Kubernetes stands for."""
    digits = str(quantity).rstrip("KMGTim")
    return float(digits) * UNITS[str(quantity).removeprefix(digits)]


def names_of(pod: Pod) -> Iterator[tuple[str, list[object]]]:
    """The lists of a pod of which every entry has a name of its own."""
    yield "volumes", [one["name"] for one in pod.spec.get("volumes", ())]
    yield "containers", [one["name"] for one in pod.containers()]
    ports = [port for one in pod.containers() for port in one.get("ports", ())]
    yield "ports", [port["containerPort"] for port in ports]
    for container in pod.containers():
        yield "env", [one["name"] for one in container.get("env", ())]
        yield "mounts", [one["mountPath"] for one in container.get("volumeMounts", ())]
        yield "names of ports", [one["name"] for one in container.get("ports", ())]


@every_scenario
def test_what_is_listed_by_name_is_listed_once(scenario: str) -> None:
    for pod in render(*SCENARIOS[scenario]).pods():
        for what, names in names_of(pod):
            assert len(set(names)) == len(names), (pod.owner, what, names)


def test_a_variable_of_one_s_own_takes_the_place_of_the_chart_s() -> None:
    own = {"env": [{"name": "HF_HOME", "value": "/own"}, {"name": "POD_NAME", "value": "own"}]}
    release = render(BASE, {"modelDefaults": own, "fuser": own})
    for pod in release.pods():
        if pod.component != "test":
            variables = [one["name"] for one in pod.main.get("env", ())]
            assert len(set(variables)) == len(variables), pod.owner
            assert own["env"][0] in pod.main["env"]


@every_scenario
def test_no_container_requests_more_than_its_limit(scenario: str) -> None:
    for pod in render(*SCENARIOS[scenario]).pods():
        for container in pod.containers():
            resources = container["resources"]
            for name, limit in resources.get("limits", {}).items():
                requested = resources.get("requests", {}).get(name, limit)
                assert amount(requested) <= amount(limit), (pod.owner, container["name"], name)


@every_scenario
def test_accelerators_are_asked_for_by_the_container_that_runs_the_model(scenario: str) -> None:
    """Those of the values, and by one container of a pod alone."""
    for pod in render(*SCENARIOS[scenario]).pods():
        asking = [one["name"] for one in pod.containers() if accelerators(one)]
        assert len(asking) <= 1, pod.owner
        claims = {one["name"] for one in pod.spec.get("resourceClaims", ())}
        used = [
            claim["name"]
            for one in pod.containers()
            for claim in one["resources"].get("claims", ())
        ]
        assert claims == set(used), pod.owner


def accelerators(container: Mapping[str, Any]) -> list[str]:
    resources = container["resources"]
    extended = [name for name in resources.get("limits", {}) if "/" in name]
    return extended + [claim["name"] for claim in resources.get("claims", ())]


@every_scenario
def test_a_rollout_can_go_on(scenario: str) -> None:
    """With neither a pod too many nor one too few, none could ever be replaced."""
    for one in render(*SCENARIOS[scenario]).of("Deployment"):
        rolling = one["spec"].get("strategy", {}).get("rollingUpdate")
        if rolling:
            assert (rolling["maxSurge"], rolling["maxUnavailable"]) != (0, 0)


@every_scenario
def test_no_spare_accelerator_is_needed_for_a_rollout(scenario: str) -> None:
    for one in render(*SCENARIOS[scenario]).of("Deployment"):
        pod = one["spec"]["template"]["spec"]
        if any(accelerators(container) for container in containers(pod)):
            strategy = one["spec"]["strategy"]
            surge = strategy.get("rollingUpdate", {}).get("maxSurge")
            assert strategy.get("type") == "Recreate" or surge == 0, one["metadata"]["name"]


def containers(pod: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from pod.get("initContainers", ())
    yield from pod["containers"]


@every_scenario
def test_a_disruption_budget_lets_some_pod_go(scenario: str) -> None:
    """Else no node that has one could ever be drained."""
    for one in render(*SCENARIOS[scenario]).of("PodDisruptionBudget"):
        assert one["spec"].get("maxUnavailable") not in (None, 0, "0%")


@every_scenario
def test_probes_look_at_ports_that_there_are(scenario: str) -> None:
    for pod in render(*SCENARIOS[scenario]).pods():
        for container in pod.containers():
            known = {port["name"] for port in container.get("ports", ())}
            known |= {port["containerPort"] for port in container.get("ports", ())}
            for probe in PROBES:
                for port in probed(container.get(probe, {})):
                    assert port in known, (pod.owner, container["name"], probe)


def probed(probe: Mapping[str, Any]) -> list[object]:
    return [probe[kind]["port"] for kind in ("grpc", "httpGet", "tcpSocket") if kind in probe]


@every_scenario
def test_a_slow_start_is_not_taken_for_a_hang(scenario: str) -> None:
    """Until a model is loaded only its start is looked at."""
    for pod in render(*SCENARIOS[scenario]).pods():
        for container in pod.containers():
            if "livenessProbe" in container and pod.component == "model":
                assert "startupProbe" in container or container["name"] != "model", pod.owner


@every_scenario
def test_autoscalers_have_room_and_one_master_each(scenario: str) -> None:
    release = render(*SCENARIOS[scenario])
    for one in release.of("HorizontalPodAutoscaler"):
        assert one["spec"]["minReplicas"] <= one["spec"]["maxReplicas"]
    for one in release.of("ScaledObject"):
        assert one["spec"]["minReplicaCount"] <= one["spec"]["maxReplicaCount"]
    masters = [master(one) for one in release.of("HorizontalPodAutoscaler", "ScaledObject")]
    assert len(set(masters)) == len(masters)


def master(one: Object) -> tuple[str, str]:
    target = one["spec"]["scaleTargetRef"]
    return target.get("kind", "Deployment"), target["name"]


@every_scenario
def test_roles_allow_looking_at_endpoint_slices_and_nothing_else(scenario: str) -> None:
    release = render(*SCENARIOS[scenario])
    assert release.of("ClusterRole", "ClusterRoleBinding") == []
    for role in release.of("Role"):
        for rule in role["rules"]:
            assert rule == {
                "apiGroups": ["discovery.k8s.io"],
                "resources": ["endpointslices"],
                "verbs": ["get", "list", "watch"],
            }


@every_scenario
def test_a_quota_is_of_what_kubernetes_counts(scenario: str) -> None:
    """Extended resources have a domain in their name; a template of claims is none."""
    for one in render(*SCENARIOS[scenario]).of("ResourceQuota"):
        for resource in one["spec"]["hard"]:
            assert "/" in resource or resource in STANDARD, resource


def test_a_fuser_that_is_not_to_wait_for_its_end_has_no_hook() -> None:
    """Of a sleep of no seconds Kubernetes knows from 1.33 on."""
    release = render(BASE, {"fuser": {"preStopSeconds": 0}})
    (pod,) = [one for one in release.pods() if one.component == "fuser"]
    assert "lifecycle" not in pod.main


@pytest.mark.parametrize(
    ("quantity", "number"), [("1", 1), (2, 2), ("500m", 0.5), ("2Gi", 2**31), ("0.5", 0.5)]
)
def test_quantities_are_read(quantity: object, number: float) -> None:
    assert amount(quantity) == number
