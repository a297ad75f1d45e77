"""What takes pods, nodes or the API server away from a mesh, under load."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing

import pytest

from specfuse.client import AsyncClient
from tests.cluster.api import PATIENCE_SECONDS, ApiError, Object
from tests.cluster.cluster import Cluster
from tests.cluster.control_plane import NODE_GRACE_SECONDS
from tests.cluster.counted import Report
from tests.cluster.judging import under_load
from tests.cluster.mesh import GRPC, MEMBERS, SLOW, SLOW_ANSWER, Mesh
from tests.cluster.observing import condition_of, takes_pods
from tests.robustness import questions

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(900),
]

AWAY_SECONDS = 60.0
"""How long the API server is away."""

ANSWER_SECONDS = 120.0
TOO_MANY_REQUESTS = 429


async def test_pods_are_deleted_under_load(mesh: Mesh, report: Report) -> None:
    """A replica of every member at once, then a fuser."""
    async with under_load("pods deleted", mesh, report):
        for parts in (questions.MEMBERS, ("fuser",)):
            for part in parts:
                pod, _ = await mesh.pods(part)
                await mesh.cluster.api.delete("pods", pod["metadata"]["name"], mesh.namespace)
            await mesh.is_whole()
    assert report.rows[-1].degraded == 0


async def test_a_node_is_drained_under_load_as_the_budgets_let_it(
    mesh: Mesh, report: Report
) -> None:
    first, second = await mesh.pods("alpha")
    async with under_load("node drained", mesh, report):
        await cordon(mesh.cluster, "node-b", unschedulable=True)
        await evict(mesh, first)
        with pytest.raises(ApiError) as refused:
            await evict(mesh, second)
        assert refused.value.code == TOO_MANY_REQUESTS
        assert "disruption budget" in refused.value.message
        refusals = 1 + await drain(mesh, "node-b")
        await mesh.is_whole()
    assert report.rows[-1].degraded == 0
    report.numbers["node drained: evictions that a disruption budget refused"] = refusals
    await cordon(mesh.cluster, "node-b", unschedulable=False)


async def test_answers_go_on_while_the_api_server_is_away(mesh: Mesh, report: Report) -> None:
    before = await mesh.lives()
    plane = mesh.cluster.control_plane
    scenario = f"API server away for {AWAY_SECONDS:g} s"
    async with under_load(scenario, mesh, report) as history:
        await plane.kill_api_server()
        since = time.monotonic()
        await history.until(lambda: time.monotonic() - since > AWAY_SECONDS)
        assert history.ends_of(asked_from=since)
        await plane.start_api_server()
        await mesh.is_whole()
    assert report.rows[-1].degraded == 0
    assert await mesh.lives() == before
    await knows_what_comes_next(mesh)


async def test_a_node_goes_away_under_load(mesh: Mesh, report: Report) -> None:
    cluster = mesh.cluster
    await spread(mesh)
    fusers = [f"{pod['status']['podIP']}:{GRPC}" for pod in await mesh.pods("fuser")]
    async with under_load("node gone", mesh, report, addresses=fusers):
        await cluster.nodes["node-b"].kill()
        since = time.monotonic()
        await cluster.api.until(
            "nodes", lambda nodes: condition_of(nodes["node-b"], "Ready") == "Unknown"
        )
        assert time.monotonic() - since > NODE_GRACE_SECONDS / 2
        await cluster.remove_node("node-b")
        await mesh.is_whole()
    await cluster.add_node("node-b", zone="b")


async def evict(mesh: Mesh, pod: Object) -> None:
    """Asks for a pod's eviction."""
    name = pod["metadata"]["name"]
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": mesh.namespace},
    }
    await mesh.cluster.api.create("pods", eviction, mesh.namespace, f"{name}/eviction")


async def drain(mesh: Mesh, node: str) -> int:
    """Evicts the pods of the mesh from a node; returns when they are gone.

    What a budget does not allow is tried again whenever something has changed; that is counted.
    """
    refusals = 0
    here = {"fieldSelector": f"spec.nodeName={node}"}
    mirror = mesh.cluster.api.mirror("pods", mesh.namespace)
    async with asyncio.timeout(PATIENCE_SECONDS), aclosing(mirror) as mirror:
        async for _ in mirror:
            pods = await mesh.cluster.api.list("pods", mesh.namespace, **here)
            if not pods:
                break
            for pod in pods.values():
                if "deletionTimestamp" not in pod["metadata"]:
                    refusals += not await is_evicted(mesh, pod)
    return refusals


async def is_evicted(mesh: Mesh, pod: Object) -> bool:
    """Asks for a pod's eviction; whether no budget was against it."""
    try:
        await evict(mesh, pod)
    except ApiError as error:
        if error.code != TOO_MANY_REQUESTS:
            raise
        return False
    return True


async def cordon(cluster: Cluster, node: str, *, unschedulable: bool) -> None:
    """Says whether new pods may come to a node; returns when the scheduler has heard of it."""
    body = {"spec": {"unschedulable": unschedulable}}
    await cluster.api.merge("nodes", node, body)
    await cluster.api.until("nodes", lambda nodes: takes_pods(nodes[node]) is not unschedulable)


async def knows_what_comes_next(mesh: Mesh) -> None:
    """What happens after the API server is back reaches the fusers: replicas go and come."""
    old = {pod["metadata"]["uid"] for pod in await mesh.pods(SLOW)}
    for pod in await mesh.pods(SLOW):
        await mesh.cluster.api.delete("pods", pod["metadata"]["name"], mesh.namespace)
    await mesh.is_whole()
    new = {pod["metadata"]["uid"] for pod in await mesh.pods(SLOW)}
    assert (len(new), old & new) == (2, set())
    async with AsyncClient(await mesh.addresses()) as client:
        answer = await client.generate("Tell me.", ensemble=SLOW, timeout=ANSWER_SECONDS)
    assert answer.text == SLOW_ANSWER


async def spread(mesh: Mesh) -> None:
    """Returns when each node has a pod of every part: those in the wrong place are replaced."""
    for part in (*MEMBERS, "fuser"):
        while len({pod["spec"]["nodeName"] for pod in await mesh.pods(part)}) == 1:
            pod, _ = await mesh.pods(part)
            node = pod["spec"]["nodeName"]
            await cordon(mesh.cluster, node, unschedulable=True)
            await mesh.cluster.api.delete("pods", pod["metadata"]["name"], mesh.namespace)
            await mesh.is_whole()
            await cordon(mesh.cluster, node, unschedulable=False)
