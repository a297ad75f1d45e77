"""The names of Services, for pods, as there is no DNS: lines of `/etc/hosts`.

A Service has the address at which the machine answers for it, a headless one those of its ready
endpoints.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Final

from tests.cluster.api import Api, Object, Objects
from tests.cluster.kubelet.news import News

_LOCAL: Final = ("127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback")
_DOMAIN: Final = "cluster.local"
_HEADLESS: Final = "None"
SERVICE: Final = "kubernetes.io/service-name"
"""The label that says of which Service endpoints are."""


class Names:
    """The Services of a cluster and where they are. There is news when that changes."""

    def __init__(self, api: Api) -> None:
        self.news = News()
        self._api = api
        self._services: Objects = {}
        self._slices: Objects = {}

    async def keep(self) -> None:
        """Follows them until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_services())
            group.create_task(self._keep_slices())

    def hosts_of(self, pod: Object, address: str) -> str:
        """The hosts file of a pod at this address."""
        namespace = pod["metadata"]["namespace"]
        own = f"{address} {pod['metadata']['name']}"
        return "\n".join((*_LOCAL, own, *self._lines(namespace), ""))

    def _lines(self, namespace: str) -> Iterator[str]:
        for one in self._services.values():
            name, within = one["metadata"]["name"], one["metadata"]["namespace"]
            long = [f"{name}.{within}", f"{name}.{within}.svc", f"{name}.{within}.svc.{_DOMAIN}"]
            names = " ".join([name, *long] if within == namespace else long)
            for address in self._addresses(one):
                yield f"{address} {names}"

    def _addresses(self, service: Object) -> list[str]:
        address = service["spec"].get("clusterIP", _HEADLESS)
        return ready_addresses(service, self._slices) if address == _HEADLESS else [address]

    async def _keep_services(self) -> None:
        async with aclosing(self._api.mirror("services")) as mirror:
            async for self._services in mirror:
                self.news.tell()

    async def _keep_slices(self) -> None:
        async with aclosing(self._api.mirror("endpointslices")) as mirror:
            async for self._slices in mirror:
                self.news.tell()


def ready_addresses(service: Object, slices: Objects) -> list[str]:
    """Where the ready endpoints of a Service are."""
    metadata = service["metadata"]
    return sorted(
        address
        for one in slices.values()
        if one["metadata"]["namespace"] == metadata["namespace"]
        and one["metadata"].get("labels", {}).get(SERVICE) == metadata["name"]
        for endpoint in one.get("endpoints") or ()
        if endpoint.get("conditions", {}).get("ready", True)
        for address in endpoint["addresses"]
    )


async def keep_hosts(folder: Path, pod: Object, address: str, names: Names) -> None:
    """Keeps the hosts file of a pod, in a folder of its own, until it is cancelled."""
    written = ""
    async with aclosing(names.news.each()) as news:
        async for _ in news:
            text = names.hosts_of(pod, address)
            if text != written:
                new = folder / "hosts.new"
                new.write_text(text)
                new.replace(folder / "hosts")
                written = text
