"""The inference servers beside the model services."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.chart.release import BASE, Pod, needs_helm, render
from tests.chart.test_services import settings

pytestmark = needs_helm

SPLIT = {
    "vllm": "--tensor-parallel-size",
    "sglang": "--tensor-parallel-size",
    "tgi": "--num-shard",
}


def pod(backend: str, **values: Any) -> Pod:
    """The pod of a model whose server is a sidecar, with these values of the model."""
    server = {"image": f"{backend}:1", **values.pop("server", {})}
    model = {"backend": backend, "server": server, **values}
    release = render(BASE, {"models": {"llama": model}})
    (found,) = [one for one in release.pods() if one.owner.endswith("-model-llama")]
    return found


def server(pod: Pod) -> Mapping[str, Any]:
    (found,) = pod.spec["initContainers"]
    assert found["restartPolicy"] == "Always"
    return dict(found)


@pytest.mark.parametrize("backend", SPLIT)
@pytest.mark.parametrize(
    "gpu", [{"count": 2}, {"claim": {"deviceClass": "gpu.example", "count": 2}}]
)
def test_a_model_is_split_over_the_accelerators_of_its_pod(
    backend: str, gpu: Mapping[str, Any]
) -> None:
    """Else all but one would be idle, and nobody would be told."""
    assert server(pod(backend, gpu=gpu))["command"][-2:] == [SPLIT[backend], "2"]


@pytest.mark.parametrize("backend", SPLIT)
@pytest.mark.parametrize("own", [("{}", "1"), ("{}=1",)])
def test_who_says_how_a_model_is_split_is_not_contradicted(
    backend: str, own: tuple[str, ...]
) -> None:
    args = [one.format(SPLIT[backend]) for one in own]
    command = server(pod(backend, gpu={"count": 2}, server={"args": args}))["command"]
    assert [one for one in command if one.startswith(SPLIT[backend])] == args[:1]
    assert command[-len(args) :] == args


@pytest.mark.parametrize("backend", SPLIT)
def test_with_one_accelerator_nothing_is_split(backend: str) -> None:
    assert SPLIT[backend] not in server(pod(backend, gpu={"count": 1}))["command"]


@pytest.mark.parametrize(("own", "parts"), [({}, 2), ({"tensor_parallel": 1}, 1)])
def test_the_model_service_splits_a_model_itself(own: Mapping[str, Any], parts: int) -> None:
    release = render(BASE, {"models": {"llama": {"gpu": {"count": 2}, "torch": own}}})
    (found,) = [one for one in release.pods() if one.owner.endswith("-model-llama")]
    assert settings(release, found).torch.tensor_parallel == parts


def test_a_server_that_needs_more_may_have_it_alone() -> None:
    allowed = {"runAsNonRoot": False, "runAsUser": 0}
    found = pod("tgi", server={"securityContext": allowed})
    assert server(found)["securityContext"].items() >= allowed.items()
    assert server(found)["securityContext"]["readOnlyRootFilesystem"] is True
    assert "runAsUser" not in found.main["securityContext"]
