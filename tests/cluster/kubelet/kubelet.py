"""A node: registers itself, gives signs of life, and does with its pods what the API has of them.

It does what the real kubelet does, for containers that are processes of this machine. What it has
not: limits of cpu and memory, logs and commands over the API, events, volumes that are claimed.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from tests.cluster.api import Objects
from tests.cluster.control_plane import API_PORT
from tests.cluster.kubelet import leases, node
from tests.cluster.kubelet.configuration import Configuration
from tests.cluster.kubelet.names import Names
from tests.cluster.kubelet.objects import ObjectCache
from tests.cluster.kubelet.pod import Node, PodWorker
from tests.cluster.kubelet.sandbox import Addresses


async def run(configuration: Configuration) -> None:
    """Is a node until it is ended. What runs on it ends with it."""
    api = configuration.open_api(configuration.kubelet)
    names = Names(configuration.open_api(configuration.proxy))
    means = Node(
        configuration=configuration,
        api=api,
        cache=ObjectCache(api),
        names=names,
        addresses=Addresses(configuration.pods),
        given={
            "KUBERNETES_SERVICE_HOST": configuration.gateway,
            "KUBERNETES_SERVICE_PORT": str(API_PORT),
        },
    )
    registered = await node.register(api, configuration)
    async with asyncio.TaskGroup() as group:
        group.create_task(leases.keep_renewing(api, registered))
        group.create_task(node.keep_reporting(api, configuration))
        group.create_task(names.keep())
        group.create_task(_keep_pods(means))


async def _keep_pods(means: Node) -> None:
    """Has a worker for every pod that is bound to the node."""
    workers: dict[str, PodWorker] = {}
    bound = f"spec.nodeName={means.configuration.name}"
    async with aclosing(means.api.mirror("pods", fieldSelector=bound)) as mirror:
        async for pods in mirror:
            _take(workers, pods, means)


def _take(workers: dict[str, PodWorker], pods: Objects, means: Node) -> None:
    there = {pod["metadata"]["uid"]: pod for pod in pods.values()}
    for uid, worker in list(workers.items()):
        if uid not in there:
            worker.vanished()
        if worker.task.done():
            del workers[uid]
    for uid, pod in there.items():
        if uid in workers:
            workers[uid].observe(pod)
        elif pod.get("status", {}).get("phase") not in ("Succeeded", "Failed"):
            workers[uid] = PodWorker(dict(pod), means)
