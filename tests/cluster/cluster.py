"""A cluster: a control plane, a network, and nodes, each a process with all that runs on it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.cluster import binaries
from tests.cluster.api import Api, ApiError, Object
from tests.cluster.control_plane import ControlPlane
from tests.cluster.kubelet.configuration import Configuration
from tests.cluster.kubelet.status import FAILED, SUCCEEDED
from tests.cluster.network import Network
from tests.cluster.observing import phase_of, takes_pods
from tests.cluster.services import ServiceProxy
from tests.support.repository import REPOSITORY

ZONE: Final = "topology.kubernetes.io/zone"
_ENDED: Final = (SUCCEEDED, FAILED)
_PROXY: Final = "system:kube-proxy"
_SANDBOXED: Final = ("unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc")


class NodeProcess:
    """A node. All that runs on it is in namespaces that end with it."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self._process = process

    @classmethod
    async def start(cls, configuration: Configuration) -> NodeProcess:
        """Starts it. It dies when this process does."""
        folder = Path(configuration.folder)
        file = configuration.write(folder / "node.json")
        tied = (sys.executable, "-m", "specfuse.localmesh.tied", str(os.getpid()))
        with (folder / "kubelet.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(*tied, *_SANDBOXED, sys.executable, "-m", "tests.cluster.kubelet", file),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=REPOSITORY,
            )
        return cls(configuration.name, process, folder)

    async def kill(self) -> None:
        """The machine is gone: kubelet, pods and all. Idempotent."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    def log_of(self, namespace: str, pod: str) -> str:
        """What all containers of a pod of this name have written on this node."""
        files = sorted((self.folder / "logs").glob(f"{namespace}.{pod}.*/*.log"))
        return "".join(file.read_text(errors="replace") for file in files)


@dataclass(slots=True)
class Cluster:
    """A running cluster, as its administrator."""

    network: Network
    control_plane: ControlPlane
    api: Api
    folder: Path
    nodes: dict[str, NodeProcess] = field(default_factory=dict)
    _ranges: int = 0

    @property
    def kubeconfig(self) -> Path:
        """What makes kubectl and helm the administrator."""
        return self.folder / "administrator.kubeconfig"

    async def add_node(
        self,
        name: str,
        *,
        zone: str = "a",
        labels: Mapping[str, str] | None = None,
        taints: Sequence[Mapping[str, str]] = (),
        capacity: Mapping[str, str] | None = None,
    ) -> NodeProcess:
        """Starts a node; returns when it is ready."""
        self._ranges += 1
        kubelet = self.control_plane.credentials_of_node(name).identity
        proxy = self.control_plane.credentials(_PROXY).identity
        configuration = Configuration(
            name=name,
            folder=str(self.folder / "nodes" / f"{name}.{self._ranges}"),
            url=self.control_plane.url,
            authority=str(self.control_plane.authority),
            kubelet=(str(kubelet.certificate), str(kubelet.key)),
            proxy=(str(proxy.certificate), str(proxy.key)),
            bridge=self.network.bridge,
            gateway=str(self.network.gateway),
            pods=str(self.network.pods_of(self._ranges)),
            labels={ZONE: zone} | dict(labels or {}),
            taints=tuple(taints),
            capacity=dict(capacity or {}),
        )
        self.nodes[name] = await NodeProcess.start(configuration)
        await self.api.until("nodes", lambda nodes: takes_pods(nodes.get(name)))
        return self.nodes[name]

    async def remove_node(self, name: str) -> None:
        """Kills a node and has the API forget it, and its pods with it."""
        await self.nodes.pop(name).kill()
        await self.api.delete("nodes", name)
        pods = await self.api.list("pods", fieldSelector=f"spec.nodeName={name}")
        for pod in pods.values():
            with suppress(ApiError):
                metadata = pod["metadata"]
                await self.api.delete("pods", metadata["name"], metadata["namespace"], grace=0)

    def log_of(self, namespace: str, pod: str) -> str:
        """What all containers of a pod of this name have written, on whichever node."""
        return "".join(node.log_of(namespace, pod) for node in self.nodes.values())

    async def create_namespace(self, body: Object) -> None:
        """Creates a namespace; returns when pods can be created there."""
        name = body["metadata"]["name"]
        await self.api.create("namespaces", body)
        await self.api.until("serviceaccounts", lambda there: f"{name}/default" in there, name)

    async def run_to_end(self, pod: Object, namespace: str) -> str:
        """Creates a pod that comes to an end by itself; what it has written.

        Raises:
            AssertionError: it failed.
        """
        name = pod["metadata"]["name"]
        key = f"{namespace}/{name}"
        await self.api.create("pods", pod, namespace)
        pods = await self.api.until(
            "pods", lambda there: phase_of(there.get(key)) in _ENDED, namespace
        )
        log = self.log_of(namespace, name)
        assert phase_of(pods[key]) == SUCCEEDED, f"{pods[key]['status']}: {log}"
        return log

    async def stop(self) -> None:
        """Ends all nodes."""
        await asyncio.gather(*(node.kill() for node in self.nodes.values()))


@asynccontextmanager
async def running_cluster(folder: Path) -> AsyncIterator[Cluster]:
    """A cluster without nodes, until the context is left; nothing is left of it then."""
    async with AsyncExitStack() as stack:
        network = Network.create()
        stack.callback(network.remove)
        control_plane = ControlPlane(binaries.assets(), network, folder)
        stack.push_async_callback(control_plane.stop)
        await control_plane.start()
        api = control_plane.admin.open()
        stack.push_async_callback(api.close)
        cluster = Cluster(network, control_plane, api, folder)
        control_plane.admin.write_kubeconfig(cluster.kubeconfig)
        proxy = control_plane.credentials(_PROXY).open()
        stack.push_async_callback(proxy.close)
        await stack.enter_async_context(ServiceProxy(proxy, network))
        stack.push_async_callback(cluster.stop)
        yield cluster
