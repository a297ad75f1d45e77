"""What the tests on a cluster share: one cluster for all of them."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from deploy.helm.generate import helm
from tests.cluster import manifests
from tests.cluster.binaries import reason_against
from tests.cluster.cluster import Cluster, running_cluster
from tests.cluster.counted import Report
from tests.cluster.mesh import Mesh, installed_mesh

_numbers = itertools.count(1)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """A cluster with a node in each of two zones."""
    if reason := reason_against():
        pytest.skip(reason)
    async with running_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        await cluster.add_node("node-a", zone="a")
        await cluster.add_node("node-b", zone="b")
        yield cluster


@pytest_asyncio.fixture(loop_scope="session")
async def namespace(cluster: Cluster) -> AsyncIterator[str]:
    """A namespace of the test's own."""
    name = f"test-{next(_numbers)}"
    await cluster.create_namespace(manifests.namespace(name))
    yield name
    await cluster.api.delete("namespaces", name)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def installed(cluster: Cluster) -> Mesh:
    """A mesh of scripted models, for all tests that leave it as it was."""
    return await installed_mesh(cluster, "mesh")


@pytest_asyncio.fixture(loop_scope="session")
async def mesh(installed: Mesh) -> Mesh:
    """That mesh, once all of it is there, and nothing else."""
    await installed.is_whole()
    return installed


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def report(cluster: Cluster) -> AsyncIterator[Report]:
    """Takes what scenarios come to; it is written at the end if the environment says where."""
    report = Report(
        {"Kubernetes": await cluster.api.version(), "Helm": helm.run("version", "--short").strip()}
    )
    yield report
    if directory := os.environ.get("CLUSTER_REPORT"):
        report.write(Path(directory))
