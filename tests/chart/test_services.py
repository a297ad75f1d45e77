"""The services take the settings that the chart writes for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import pytest
import yaml

from fuser_service.settings.settings import Settings as FuserSettings
from model_service.settings import Settings as ModelSettings
from specfuse.observability.tracing.settings import EdgeTracing
from tests.chart.release import SCENARIOS, Pod, Release, every_scenario, needs_helm, render

SETTINGS = {"fuser": FuserSettings, "model": ModelSettings}


def service_pods(release: Release) -> Iterator[Pod]:
    return (pod for pod in release.pods() if pod.component in SETTINGS)


def files(release: Release, pod: Pod, container: dict[str, Any]) -> dict[str, str]:
    """The texts that ConfigMaps put into a container, by path."""
    maps = {one["metadata"]["name"]: one.get("data", {}) for one in release.of("ConfigMap")}
    found = {}
    for mount in container.get("volumeMounts", ()):
        (volume,) = [one for one in pod.spec["volumes"] if one["name"] == mount["name"]]
        for source in volume.get("projected", {}).get("sources", ()):
            for item in source.get("configMap", {}).get("items", ()):
                path = PurePosixPath(mount["mountPath"]) / item["path"]
                found[str(path)] = maps[source["configMap"]["name"]][item["key"]]
    return found


def settings(release: Release, pod: Pod) -> Any:
    """What the service in a pod is told, as the service understands it."""
    container = service(pod)
    *command, path = container["args"]
    assert command == [pod.component, "serve"]
    text = files(release, pod, container)[path]
    return SETTINGS[pod.component].parse(text, source=pod.owner)


def service(pod: Pod) -> Any:
    """The container that runs `specfuse`, whatever stands beside it."""
    (found,) = [
        one for one in pod.containers() if one.get("args", ())[:2] == [pod.component, "serve"]
    ]
    return found


@needs_helm
@every_scenario
def test_the_services_take_their_settings(scenario: str) -> None:
    release = render(*SCENARIOS[scenario])
    pods = list(service_pods(release))
    assert pods
    for pod in pods:
        settings(release, pod)


@needs_helm
@every_scenario
def test_every_member_is_a_model_of_the_release_or_told_by_the_values(scenario: str) -> None:
    release = render(*SCENARIOS[scenario])
    told: set[str] = set()
    for file in SCENARIOS[scenario]:
        told |= set(yaml.safe_load(file.read_text()).get("externalMembers", {}))
    pods = list(service_pods(release))
    models = {settings(release, pod).name for pod in pods if pod.component == "model"}
    (fuser,) = [settings(release, pod) for pod in pods if pod.component == "fuser"]
    assert set(fuser.members) == models | told


@needs_helm
@every_scenario
def test_services_listen_where_their_containers_and_services_say(scenario: str) -> None:
    release = render(*SCENARIOS[scenario])
    for pod in service_pods(release):
        container = service(pod)
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        told = settings(release, pod)
        assert ports["grpc"] == _port(told.listen)
        assert ports["metrics"] == _port(told.metrics_listen)
        if pod.component == "fuser":
            assert ports.get("http") == (told.http and _port(told.http.listen))


@needs_helm
@every_scenario
def test_a_pod_has_more_time_to_end_than_its_service_takes(scenario: str) -> None:
    release = render(*SCENARIOS[scenario])
    for pod in service_pods(release):
        told = settings(release, pod)
        stop = service(pod).get("lifecycle", {}).get("preStop", {}).get("sleep", {})
        needed = told.drain_seconds + getattr(told, "linger_seconds", 0) + stop.get("seconds", 0)
        assert pod.spec["terminationGracePeriodSeconds"] > needed + 5


@needs_helm
@every_scenario
def test_a_change_of_what_is_read_at_the_start_only_restarts_pods(scenario: str) -> None:
    """A model reads its settings once; the pods say by an annotation which ones they have."""
    release = render(*SCENARIOS[scenario])
    for pod in service_pods(release):
        assert any("checksum/" in name for name in pod.annotations), pod.owner


@needs_helm
@every_scenario
def test_everything_that_a_pod_mounts_is_there(scenario: str) -> None:
    for pod in render(*SCENARIOS[scenario]).pods():
        volumes = {volume["name"] for volume in pod.spec.get("volumes", ())}
        for container in pod.containers():
            mounts = [mount["name"] for mount in container.get("volumeMounts", ())]
            assert set(mounts) <= volumes, pod.owner
            paths = [mount["mountPath"] for mount in container.get("volumeMounts", ())]
            assert len(set(paths)) == len(paths), pod.owner


@needs_helm
def test_all_services_send_traces_and_log_as_the_values_say() -> None:
    release = render(*SCENARIOS["traced"])
    for pod in service_pods(release):
        told = settings(release, pod)
        assert told.tracing.endpoint == "otel-collector.monitoring:4317", pod.owner
        if pod.component == "model":  # records what its fuser does, or traces would be torn
            assert not isinstance(told.tracing, EdgeTracing)
        else:
            assert (told.tracing.sample_ratio, told.tracing.trust_callers) == (0.05, False)
        assert told.log_format == "json"


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


@pytest.mark.parametrize("address", ["0.0.0.0:1", "[::]:1"])
def test_the_port_of_an_address_is_found(address: str) -> None:
    assert _port(address) == 1
