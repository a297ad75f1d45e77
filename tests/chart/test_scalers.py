"""What autoscalers read is of their own release."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pytest

from tests.chart.release import BASE, needs_helm, render

pytestmark = needs_helm

MONITORS: Final = ("podMonitor", "serviceMonitor")
TARGET_LABELS: Final = ("podTargetLabels", "targetLabels")
KEDA: Final[Mapping[str, Any]] = {
    "prometheus": {"serverAddress": "http://prometheus:9090"},
    "models": {
        "llama": {
            "autoscaling": {"keda": {"enabled": True}, "minReplicas": 0, "maxReplicas": 1},
        }
    },
    "ensembles": {"assistant": {"wake_seconds": 300}},
}
HPA: Final[Mapping[str, Any]] = {
    "models": {
        "llama": {
            "weights": {"cache": {"accessModes": ["ReadWriteMany"]}},
            "autoscaling": {"hpa": {"enabled": True}},
        }
    }
}


def monitored_by(monitor: str) -> Mapping[str, Any]:
    return {"monitoring": {monitor: {"enabled": True}}}


@pytest.mark.parametrize("monitor", MONITORS)
def test_series_have_the_release_s_name(monitor: str) -> None:
    (found,) = render(BASE, monitored_by(monitor)).of("PodMonitor", "ServiceMonitor")
    (labels,) = [found["spec"][key] for key in TARGET_LABELS if key in found["spec"]]
    assert "app.kubernetes.io/instance" in labels


@pytest.mark.parametrize("monitor", MONITORS)
def test_two_releases_in_a_namespace_are_scaled_apart(monitor: str) -> None:
    queries = [queries_of(name, monitored_by(monitor)) for name in ("one", "two")]
    assert len(queries[0]) == len(queries[1]) == 3
    assert not queries[0] & queries[1]


def queries_of(name: str, values: Mapping[str, Any]) -> set[str]:
    (scaler,) = render(BASE, KEDA, values, name=name).of("ScaledObject")
    return {trigger["metadata"]["query"] for trigger in scaler["spec"]["triggers"]}


@pytest.mark.parametrize("monitor", MONITORS)
def test_a_metrics_adapter_is_asked_for_the_release_too(monitor: str) -> None:
    (scaler,) = render(BASE, HPA, monitored_by(monitor)).of("HorizontalPodAutoscaler")
    for metric in scaler["spec"]["metrics"]:
        wanted = metric["external"]["metric"]["selector"]["matchLabels"]
        assert wanted["app_kubernetes_io_instance"] == "specfuse"


def test_matchers_may_have_both_kinds_of_quotes() -> None:
    matchers = {"prometheus": {"matchers": "a='it',b=\"is\""}}
    for query in queries_of("one", matchers):
        assert "a='it',b=\"is\"" in query
