"""Pods that need accelerators, on nodes that have some, as a device plugin says of them."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from deploy.helm.generate import helm
from tests.cluster import manifests
from tests.cluster.api import Object, Objects
from tests.cluster.cluster import Cluster
from tests.cluster.mesh import SMALL, of
from tests.cluster.observing import condition_of, is_true
from tests.cluster.release import Release

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(900),
]

NAME = "gpus"
WHOLE, SLICE = "nvidia.com/gpu", "nvidia.com/mig-1g.10gb"
TAINT = {"key": WHOLE, "value": "present", "effect": "NoSchedule"}
KUBECTL = shutil.which("kubectl", path=helm.INSTALLED) or shutil.which("kubectl")


def values(cache_bytes: int = 1 << 24) -> Object:
    """Models on whole GPUs, one more than there are, on slices of one, and on none.

    The GPUs are names, and so are the models.
    """
    return {
        "modelDefaults": {
            "image": {"repository": "without-model"},
            "weights": {"path": "/nowhere"},
            "torch": {"kv_cache_bytes": cache_bytes},
            "resources": SMALL,
            "startupSeconds": 120,
            "lingerSeconds": 2,
        },
        "models": {
            "large": {"replicas": 3, "gpu": {"count": 1}},
            "small": {"replicas": 2, "gpu": {"count": 1, "resource": SLICE}},
            "tiny": {},
        },
        "ensembles": {"everybody": {"members": ["large", "small", "tiny"]}},
        "fuser": {"replicas": 1, "resources": SMALL, "tenancy": {"anonymous": "allow"}},
    }


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def nodes(cluster: Cluster) -> AsyncIterator[None]:
    """A node with two whole GPUs, and one with two slices, both for those only who need them."""
    await cluster.add_node("whole", taints=[TAINT], capacity={WHOLE: "2"})
    await cluster.add_node("sliced", taints=[TAINT], capacity={SLICE: "2"})
    yield
    for name in ("whole", "sliced"):
        await cluster.remove_node(name)


@pytest.mark.usefixtures("nodes")
async def test_each_pod_is_where_its_accelerator_is_and_the_one_too_many_is_named(
    cluster: Cluster,
) -> None:
    await cluster.create_namespace(manifests.restricted_namespace(NAME))
    release = Release(cluster, NAME)
    notes = await release.install(values())
    assert f"{WHOLE}: 3" in notes
    assert f"{SLICE}: 2" in notes

    pods = await cluster.api.until("pods", all_but_one_are_ready, NAME)
    places = {part: nodes_of(pods, part) for part in ("large", "small", "tiny", "fuser")}
    assert places["large"] == ["", "whole", "whole"]
    assert places["small"] == ["sliced", "sliced"]
    assert {"whole", "sliced"}.isdisjoint(places["tiny"] + places["fuser"])
    (waiting,) = [pod for pod in pods.values() if not is_true(pod, "Ready")]
    assert condition_of(waiting, "PodScheduled") == "False"
    if KUBECTL is not None:
        pending, reasons = await asyncio.gather(
            *(said_by(command, cluster) for command in questions_in(notes))
        )
        assert waiting["metadata"]["name"] in pending
        assert len(pending.splitlines()) == 2  # its head, and that pod
        assert f"Insufficient {WHOLE}" in reasons

    await cluster.add_node("more", taints=[TAINT], capacity={WHOLE: "1"})
    await release.until_available()

    # There is no spare GPU now, and other settings need none.
    await release.upgrade(values(1 << 25))
    await release.until_available()
    await release.uninstall()
    await cluster.remove_node("more")


def all_but_one_are_ready(pods: Objects) -> bool:
    ready = [is_true(pod, "Ready") for pod in pods.values()]
    return len(ready) == 7 and ready.count(False) == 1


def nodes_of(pods: Objects, part: str) -> list[str]:
    """The nodes of the pods of a part, sorted; empty for a pod that has none."""
    return sorted(pod["spec"].get("nodeName", "") for pod in of(pods, part))


def questions_in(notes: str) -> list[str]:
    """What the notes say to ask about pods that have no node."""
    return re.findall(r"^ *(kubectl .*(?:Pending|FailedScheduling))$", notes, re.MULTILINE)


async def said_by(command: str, cluster: Cluster) -> str:
    """What a command says to the cluster's administrator."""
    assert KUBECTL is not None
    places = os.pathsep.join((str(Path(KUBECTL).parent), "/usr/bin", "/bin"))
    process = await asyncio.create_subprocess_shell(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env={"PATH": places, "KUBECONFIG": str(cluster.kubeconfig), "HOME": str(cluster.folder)},
    )
    said, _ = await process.communicate()
    assert process.returncode == 0
    return said.decode()
