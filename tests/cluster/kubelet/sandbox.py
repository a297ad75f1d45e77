"""What a pod's containers share: a network namespace with an address of its own, and a name.

A process that does nothing holds it, so it is gone when that is.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Self

_NAMED_AND_HELD = 'echo "$0" > /proc/sys/kernel/hostname && echo && exec sleep infinity'


class Addresses:
    """The addresses of a node's pods. One that was given back is the last to be given again."""

    def __init__(self, pods: str) -> None:
        self._free = list(IPv4Network(pods).hosts())

    def take(self) -> IPv4Address:
        """An address that nobody has."""
        return self._free.pop(0)

    def give_back(self, address: IPv4Address) -> None:
        """It may be given to others."""
        self._free.append(address)


@dataclass(frozen=True, slots=True)
class Sandbox:
    """The namespaces of a pod, and the process that holds them."""

    address: IPv4Address
    _process: asyncio.subprocess.Process
    _link: str

    @classmethod
    async def open(cls, hostname: str, address: IPv4Address, bridge: str, gateway: str) -> Self:
        """New namespaces, on the bridge."""
        process = await asyncio.create_subprocess_exec(
            *("unshare", "--net", "--uts", "--ipc"),
            *("sh", "-c", _NAMED_AND_HELD, hostname),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        await process.stdout.readline()  # it is in its namespaces by now
        sandbox = cls(address, process, f"sf{int(address):x}")
        try:
            await sandbox._connect(bridge, gateway)
        except BaseException:
            await sandbox.close()
            raise
        return sandbox

    @property
    def namespaces(self) -> Iterator[str]:
        """The files of the namespaces that containers join."""
        for kind in ("net", "uts", "ipc"):
            yield f"/proc/{self._process.pid}/ns/{kind}"

    async def close(self) -> None:
        """Ends it; the kernel removes what nobody uses any more."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def _connect(self, bridge: str, gateway: str) -> None:
        """Gives it an interface on the bridge."""
        pid = self._process.pid
        await _ip(
            f"link add {self._link} type veth peer name eth0 netns {pid}",
            f"link set {self._link} master {bridge} up",
        )
        await _ip(
            "link set lo up",
            f"address add {self.address}/16 dev eth0",
            "link set eth0 up",
            f"route add default via {gateway}",
            within=pid,
        )


async def _ip(*commands: str, within: int | None = None) -> None:
    """Has `ip` do it, in the network namespace of that process."""
    enter = () if within is None else ("nsenter", "--target", str(within), "--net")
    process = await asyncio.create_subprocess_exec(
        *(*enter, "ip", "-batch", "-"), stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    _, said = await process.communicate("\n".join(commands).encode())
    if process.returncode != 0:
        raise OSError(f"ip: {said.decode()}")
