"""One pod on a node, from when it is bound to it until nothing of it is left."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.api import Api, Object
from tests.cluster.kubelet.configuration import Configuration
from tests.cluster.kubelet.container import Container
from tests.cluster.kubelet.names import Names, keep_hosts
from tests.cluster.kubelet.news import News
from tests.cluster.kubelet.objects import ObjectCache
from tests.cluster.kubelet.reporting import Reporting
from tests.cluster.kubelet.room import Room
from tests.cluster.kubelet.sandbox import Addresses, Sandbox
from tests.cluster.kubelet.status import Record, status_of
from tests.cluster.kubelet.volumes import Volumes

_LONGEST_NAME = 63
_LEAST_GRACE_SECONDS = 1
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Node:
    """What pods need of their node. `given` are variables that every container has."""

    configuration: Configuration
    api: Api
    cache: ObjectCache
    names: Names
    addresses: Addresses
    given: Mapping[str, str]


class PodWorker:
    """Does with a pod what the API has of it."""

    def __init__(self, pod: Object, node: Node) -> None:
        """Begins at once."""
        self._pod = pod
        self._node = node
        self._news = News()
        self._ending = asyncio.Event()
        self._room: Room | None = None
        self._around: asyncio.Task[None] | None = None
        self._first: list[Container] = []
        self._main: list[Container] = []
        self._reporting = Reporting(pod, node.api, self._news, self._status)
        self.task = asyncio.create_task(self._run())

    def observe(self, pod: Object) -> None:
        """The API has it so now."""
        self._pod |= pod
        self._reporting.observe(pod.get("status", {}))
        self._node.cache.news.tell()  # files may show its labels
        if "deletionTimestamp" in pod["metadata"]:
            self._ending.set()

    def vanished(self) -> None:
        """The API has it no more. If nobody waited for its end, it has hardly any time for it."""
        if not self._ending.is_set():
            self._pod["metadata"]["deletionGracePeriodSeconds"] = _LEAST_GRACE_SECONDS
        self._reporting.is_gone = True
        self._ending.set()
        self._news.tell()

    async def _run(self) -> None:
        reporting = asyncio.create_task(self._reporting.keep())
        try:
            await self._live_and_end()
            await self._news.until(lambda: self._reporting.is_done)
            await self._ending.wait()
            await self._remove()
            await self._reporting.remove()
        except Exception:
            _logger.exception("pod %s", self._pod["metadata"]["name"])
            raise
        finally:
            reporting.cancel()

    async def _live_and_end(self) -> None:
        """Runs its containers until they are done, or it is to end; then ends them."""
        living = asyncio.create_task(self._live())
        ending = asyncio.create_task(self._ending.wait())
        done, _ = await asyncio.wait({living, ending}, return_when=asyncio.FIRST_COMPLETED)
        for task in {living, ending} - done:
            task.cancel()
        await asyncio.gather(living, ending, return_exceptions=True)
        await self._stop()
        for task in done:
            task.result()

    async def _live(self) -> None:
        """Starts everything; returns when the pod has come to an end by itself."""
        room = await self._open_room()
        self._first, self._main = _containers(room)
        self._around = asyncio.create_task(self._keep_around(room))
        await room.volumes.until_there()
        for container in self._first:
            container.start()
            await self._news.until(lambda one=container: _may_go_on(one.record))
            if not container.record.done_well:
                return
        for container in self._main:
            container.start()
        await self._news.until(lambda: all(one.record.over for one in self._main))

    async def _open_room(self) -> Room:
        node, metadata = self._node, self._pod["metadata"]
        where = node.configuration
        hostname = self._pod["spec"].get("hostname", metadata["name"])[:_LONGEST_NAME]
        address = node.addresses.take()
        sandbox = await Sandbox.open(hostname, address, where.bridge, where.gateway)
        folder = Path(where.folder) / "pods" / metadata["uid"]
        self._room = Room(
            pod=self._pod,
            folder=folder,
            sandbox=sandbox,
            volumes=Volumes(self._pod, folder / "volumes", node.cache, node.api),
            given={**node.given, "HOSTNAME": hostname},
            changed=self._news.tell,
        )
        self._news.tell()
        return self._room

    async def _keep_around(self, room: Room) -> None:
        """Keeps what the containers see: their volumes, and where Services are."""
        address = str(room.sandbox.address)
        async with asyncio.TaskGroup() as group:
            group.create_task(room.volumes.keep(address))
            group.create_task(keep_hosts(room.hosts, self._pod, address, self._node.names))

    async def _stop(self) -> None:
        """Ends the containers, those that came first last."""
        grace = 0.0 if self._room is None else self._room.grace_seconds
        until = time.monotonic() + grace
        await asyncio.gather(*(one.stop(grace) for one in self._main))
        for container in reversed(self._first):
            await container.stop(max(until - time.monotonic(), 0.0))
        self._news.tell()

    async def _remove(self) -> None:
        """Removes what there is of it on the node."""
        if self._around is not None:
            self._around.cancel()
            await asyncio.gather(self._around, return_exceptions=True)
        if self._room is not None:
            await self._room.sandbox.close()
            self._node.addresses.give_back(self._room.sandbox.address)
            shutil.rmtree(self._room.folder)

    def _status(self, old: Object) -> Object:
        addresses = {"node": self._node.configuration.gateway}
        trouble = ""
        if self._room is not None:
            addresses["pod"] = str(self._room.sandbox.address)
            trouble = self._room.volumes.trouble
        spec = self._pod["spec"]
        first = _records(self._first, spec.get("initContainers", ()))
        return status_of(first, _records(self._main, spec["containers"]), old, addresses, trouble)


def _containers(room: Room) -> tuple[list[Container], list[Container]]:
    """The containers that come first, and the others."""
    policy = room.pod["spec"].get("restartPolicy", "Always")
    first = []
    for spec in room.pod["spec"].get("initContainers", ()):
        sidecar = spec.get("restartPolicy") == "Always"
        # Those that are to come to an end are tried again, unless the pod says never.
        restarts = "Always" if sidecar else ("Never" if policy == "Never" else "OnFailure")
        first.append(Container(spec, room, restarts=restarts, sidecar=sidecar))
    return first, [Container(one, room, restarts=policy) for one in room.pod["spec"]["containers"]]


def _records(containers: Iterable[Container], specs: Iterable[Object]) -> list[Record]:
    """What is known of the containers, or of those that will be."""
    known = [one.record for one in containers]
    return known or [Record(one["name"], one["image"]) for one in specs]


def _may_go_on(record: Record) -> bool:
    """Whether what comes after this container may begin, or never will."""
    return record.done_well or record.over
