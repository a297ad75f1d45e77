"""The addresses of Services: for each connection, one of the ready endpoints is chosen.

It stands for kube-proxy. The machine answers for the addresses, and passes on what comes.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import dataclass
from typing import Final, Self

from tests.cluster.api import Api, Object, Objects
from tests.cluster.kubelet.names import SERVICE
from tests.cluster.network import Network

_CHUNK_BYTES: Final = 1 << 16
_HEADLESS: Final = "None"


@dataclass(frozen=True, slots=True)
class Front:
    """An address and port of a Service."""

    namespace: str
    service: str
    address: str
    port: int
    port_name: str


class ServiceProxy:
    """Answers for all Services that have an address."""

    def __init__(self, api: Api, network: Network) -> None:
        self._api = api
        self._network = network
        self._slices: Objects = {}
        self._servers: dict[Front, asyncio.Server] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(self._keep_slices()),
            asyncio.create_task(self._keep_services()),
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers.values():
            server.close()
        tasks = [*self._tasks, *self._connections]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep_slices(self) -> None:
        async with aclosing(self._api.mirror("endpointslices")) as mirror:
            async for self._slices in mirror:
                pass

    async def _keep_services(self) -> None:
        async with aclosing(self._api.mirror("services")) as mirror:
            async for services in mirror:
                await self._answer_for(set(_fronts(services)))

    async def _answer_for(self, fronts: set[Front]) -> None:
        for front in self._servers.keys() - fronts:
            self._servers.pop(front).close()
            if all(one.address != front.address for one in fronts):
                self._network.remove_address(front.address)
        for front in fronts - self._servers.keys():
            self._network.add_address(front.address)

            async def accept(
                reader: asyncio.StreamReader, writer: asyncio.StreamWriter, front: Front = front
            ) -> None:
                await self._pass_on(front, reader, writer)

            self._servers[front] = await asyncio.start_server(accept, front.address, front.port)

    async def _pass_on(
        self, front: Front, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Passes a connection on to an endpoint; without one it is closed."""
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            async with AsyncExitStack() as stack:
                stack.callback(writer.close)
                endpoints = list(_endpoints(front, self._slices))
                if not endpoints:
                    return
                beyond = await asyncio.open_connection(*random.choice(endpoints))
                stack.callback(beyond[1].close)
                await asyncio.gather(_pump(reader, beyond[1]), _pump(beyond[0], writer))
        except OSError:
            pass
        finally:
            self._connections.discard(task)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Passes on what comes, and its end."""
    while chunk := await reader.read(_CHUNK_BYTES):
        writer.write(chunk)
        await writer.drain()
    with suppress(OSError):
        writer.write_eof()


def _fronts(services: Objects) -> Iterator[Front]:
    for one in services.values():
        address = one["spec"].get("clusterIP", _HEADLESS)
        if address != _HEADLESS:
            metadata = one["metadata"]
            for port in one["spec"].get("ports", ()):
                yield Front(
                    namespace=metadata["namespace"],
                    service=metadata["name"],
                    address=address,
                    port=port["port"],
                    port_name=port.get("name", ""),
                )


def _endpoints(front: Front, slices: Objects) -> Iterator[tuple[str, int]]:
    """The ready endpoints of a Service, as it has them for one of its ports."""
    for one in slices.values():
        metadata = one["metadata"]
        of = metadata["namespace"], metadata.get("labels", {}).get(SERVICE)
        if of == (front.namespace, front.service):
            ports = [p["port"] for p in one.get("ports") or () if _is_named(p, front.port_name)]
            for endpoint in one.get("endpoints") or ():
                if _is_ready(endpoint):
                    yield from ((endpoint["addresses"][0], port) for port in ports)


def _is_named(port: Object, name: str) -> bool:
    return (port.get("name") or "") == name


def _is_ready(endpoint: Object) -> bool:
    return bool(endpoint.get("conditions", {}).get("ready", True))
