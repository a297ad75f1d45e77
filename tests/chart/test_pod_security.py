"""Every pod keeps to the profile `restricted`, and to what the chart promises beyond it."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.chart.pod_security import looseness, violations
from tests.chart.release import SCENARIOS, Pod, every_scenario, needs_helm, render

CONTAINER: dict[str, Any] = {
    "name": "main",
    "image": "specfuse-model:1",
    "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "1Gi"}},
    "securityContext": {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    },
}
STRICT: dict[str, Any] = {
    "automountServiceAccountToken": False,
    "enableServiceLinks": False,
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [CONTAINER],
}

VIOLATIONS: dict[str, dict[str, Any]] = {
    "hostNetwork": {"hostNetwork": True},
    "hostPath": {"volumes": [{"name": "a", "hostPath": {"path": "/"}}]},
    "nfs": {"volumes": [{"name": "a", "nfs": {"server": "a", "path": "/"}}]},
    "sysctl": {"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}},
    "runAsUser": {"securityContext": {"runAsUser": 0}},
    "runAsNonRoot": {"securityContext": {"runAsNonRoot": None}},
    "seccompProfile": {"securityContext": {"seccompProfile": {"type": "Unconfined"}}},
    "appArmorProfile": {"securityContext": {"appArmorProfile": {"type": "Unconfined"}}},
    "seLinuxOptions": {"securityContext": {"seLinuxOptions": {"user": "system_u"}}},
    "hostProcess": {"securityContext": {"windowsOptions": {"hostProcess": True}}},
    "privileged": {"containers": [{"securityContext": {"privileged": True}}]},
    "allowPrivilegeEscalation": {
        "containers": [{"securityContext": {"allowPrivilegeEscalation": None}}]
    },
    "capabilities.drop": {"containers": [{"securityContext": {"capabilities": {"drop": []}}}]},
    "capabilities.add": {
        "containers": [{"securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}}]
    },
    "procMount": {"containers": [{"securityContext": {"procMount": "Unmasked"}}]},
    "hostPort": {"containers": [{"ports": [{"containerPort": 1, "hostPort": 1}]}]},
    "httpGet.host": {"containers": [{"livenessProbe": {"httpGet": {"host": "a", "port": 1}}}]},
    "tcpSocket.host": {
        "containers": [{"lifecycle": {"preStop": {"tcpSocket": {"host": "a", "port": 1}}}}]
    },
}
LOOSENESS: dict[str, dict[str, Any]] = {
    "token": {"automountServiceAccountToken": None},
    "enableServiceLinks": {"enableServiceLinks": None},
    "readOnlyRootFilesystem": {
        "containers": [{"securityContext": {"readOnlyRootFilesystem": False}}]
    },
    "subPath": {"containers": [{"volumeMounts": [{"mountPath": "/a", "subPath": "b"}]}]},
    "is a secret": {
        "containers": [
            {"env": [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}]}
        ]
    },
    "Secret a": {"containers": [{"envFrom": [{"secretRef": {"name": "a"}}]}]},
    "has no memory": {"containers": [{"resources": {"limits": {"memory": None}}}]},
}


def pod(change: dict[str, Any], into: str = "containers") -> Pod:
    """A strict pod with a change; what is said of its container may be said of one before it."""
    spec = copy.deepcopy(STRICT)
    change = copy.deepcopy(change)
    if "containers" in change:
        spec.setdefault(into, [copy.deepcopy(CONTAINER)])
        laid_over(spec[into][0], change.pop("containers")[0])
    laid_over(spec, change)
    return Pod("Deployment a", {"app.kubernetes.io/component": "model"}, {}, spec)


def laid_over(below: dict[str, Any], above: dict[str, Any]) -> None:
    for key, value in above.items():
        if value is None:
            del below[key]
        elif isinstance(value, dict) and key in below:
            laid_over(below[key], value)
        else:
            below[key] = value


def test_a_strict_pod_is_found_strict() -> None:
    assert list(violations(pod({}))) == []
    assert list(looseness(pod({}))) == []


@pytest.mark.parametrize("name", VIOLATIONS)
@pytest.mark.parametrize("into", ["containers", "initContainers"])
def test_each_violation_is_found(name: str, into: str) -> None:
    found = list(violations(pod(VIOLATIONS[name], into)))
    assert any(name in one for one in found)


@pytest.mark.parametrize("name", LOOSENESS)
@pytest.mark.parametrize("into", ["containers", "initContainers"])
def test_each_looseness_is_found(name: str, into: str) -> None:
    (found,) = looseness(pod(LOOSENESS[name], into))
    assert name in found


@needs_helm
@every_scenario
def test_every_pod_is_restricted(scenario: str) -> None:
    pods = list(render(*SCENARIOS[scenario]).pods())
    assert pods
    for one in pods:
        assert list(violations(one)) == [], one.owner


@needs_helm
@every_scenario
def test_every_pod_is_as_strict_as_the_chart_promises(scenario: str) -> None:
    for one in render(*SCENARIOS[scenario]).pods():
        assert list(looseness(one)) == [], one.owner
