"""The network of a cluster: a bridge of this machine, on which every pod has an address.

There is one range for all: pods, Services and the control plane, so that whoever is on the bridge
reaches everybody without routes. The machine is on it, too.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Final, Self

_RANGES: Final = IPv4Network("10.128.0.0/9")
_PREFIX: Final = 16
_SERVICES: Final = 255
"""The third number of the addresses of Services; that of nodes counts from 1."""

_NAME: Final = re.compile(r"sfbridge(\d+)")


@dataclass(frozen=True, slots=True)
class Network:
    """A bridge and its range. Several may be there at the same time, of several test runs."""

    bridge: str
    range: IPv4Network

    @classmethod
    def create(cls) -> Self:
        """A new one. What runs left behind that were killed is removed."""
        _remove_orphans()
        network = cls(f"sfbridge{os.getpid()}", _free_range())
        ip("link", "add", network.bridge, "type", "bridge")
        try:
            ip("address", "add", f"{network.gateway}/{_PREFIX}", "dev", network.bridge)
            ip("link", "set", network.bridge, "up")
        except BaseException:
            network.remove()
            raise
        return network

    def remove(self) -> None:
        """Removes it; what its pods had of it goes with them."""
        ip("link", "delete", self.bridge)

    @property
    def gateway(self) -> IPv4Address:
        """This machine, and the control plane."""
        return self.range[1]

    @property
    def services(self) -> IPv4Network:
        """The addresses of Services."""
        return self._part(_SERVICES)

    def pods_of(self, node: int) -> IPv4Network:
        """The addresses of the pods of a node; nodes count from 1."""
        return self._part(node)

    @property
    def links(self) -> set[str]:
        """The interfaces of pods that are on it."""
        found = json.loads(ip("-json", "link", "show", "master", self.bridge))
        return {one["ifname"] for one in found}

    def add_address(self, address: str) -> None:
        """Has this machine answer for the address, too."""
        ip("address", "replace", f"{address}/32", "dev", self.bridge)

    def remove_address(self, address: str) -> None:
        """Has this machine no longer answer for it."""
        ip("address", "delete", f"{address}/32", "dev", self.bridge)

    def _part(self, number: int) -> IPv4Network:
        return list(self.range.subnets(new_prefix=24))[number]


def ip(*arguments: str) -> str:
    """What `ip` says."""
    return subprocess.run(
        ["ip", *arguments], check=True, capture_output=True, text=True, timeout=30
    ).stdout


def _free_range() -> IPv4Network:
    """A range that no route of this machine has to do with."""
    routes = json.loads(ip("-json", "route", "show", "table", "all"))
    taken = [found for one in routes if (found := _network_of(one["dst"])) is not None]
    ranges = list(_RANGES.subnets(new_prefix=_PREFIX))
    random.shuffle(ranges)
    return next(one for one in ranges if not any(one.overlaps(other) for other in taken))


def _network_of(destination: str) -> IPv4Network | None:
    try:
        return IPv4Network(destination)
    except ValueError:  # default, or of another family
        return None


def _remove_orphans() -> None:
    """Removes the bridges of test runs that are over."""
    for link in json.loads(ip("-json", "link", "show", "type", "bridge")):
        found = _NAME.fullmatch(link.get("ifname", ""))
        if found and not Path(f"/proc/{found[1]}").exists():
            ip("link", "delete", link["ifname"])
