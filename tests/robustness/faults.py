"""What can go wrong with a mesh, as objects: each does its harm, and undoes it.

A fault names the services that it is done to, and is told the mesh when it is done: so faults can
be listed before there is any mesh.
"""

from __future__ import annotations

import asyncio
import resource
import signal
from dataclasses import dataclass
from typing import Protocol

from tests.robustness.mesh import Mesh
from tests.robustness.nodes import Node


class Fault(Protocol):
    """Something that goes wrong."""

    def available(self, mesh: Mesh) -> bool:
        """Whether the mesh has what it is done to."""

    async def inject(self, mesh: Mesh) -> None:
        """Does it. Returns once it is done."""

    async def heal(self, mesh: Mesh) -> None:
        """Undoes it. Returns once whatever was ended or cut off could be asked again."""


@dataclass(frozen=True, slots=True)
class OnTarget:
    """A fault of one service."""

    target: str

    def available(self, mesh: Mesh) -> bool:
        """Whether the mesh has the service."""
        return self.target in mesh.nodes

    def __str__(self) -> str:
        return f"{type(self).__name__.lower()} {self.target}"

    def _node(self, mesh: Mesh) -> Node:
        return mesh.nodes[self.target]


class Killed(OnTarget):
    """The process is killed; healing starts it again."""

    async def inject(self, mesh: Mesh) -> None:
        """SIGKILL."""
        self._node(mesh).signal(signal.SIGKILL)
        await self._node(mesh).ended()

    async def heal(self, mesh: Mesh) -> None:
        """Starts it again, at the same address."""
        await self._node(mesh).ensure_running()


class Terminated(OnTarget):
    """The process is asked to end, as a supervisor asks it; healing starts it again."""

    async def inject(self, mesh: Mesh) -> None:
        """SIGTERM. What it is at, it finishes under the eyes of the traffic."""
        self._node(mesh).signal(signal.SIGTERM)

    async def heal(self, mesh: Mesh) -> None:
        """Starts it again, at the same address, once it has ended."""
        await self._node(mesh).ended()
        await self._node(mesh).ensure_running()


class Restarted(OnTarget):
    """The process ends in good order and is started again at once. There is nothing to heal."""

    async def inject(self, mesh: Mesh) -> None:
        """SIGTERM, and a start once it has ended."""
        self._node(mesh).signal(signal.SIGTERM)
        await self._node(mesh).ended()
        await self._node(mesh).ensure_running()

    async def heal(self, mesh: Mesh) -> None:
        """Nothing is left to do."""


class Hung(OnTarget):
    """The process is stopped: connections stay open and nothing comes. Healing lets it go on."""

    async def inject(self, mesh: Mesh) -> None:
        """SIGSTOP."""
        self._node(mesh).signal(signal.SIGSTOP)

    async def heal(self, mesh: Mesh) -> None:
        """SIGCONT."""
        self._node(mesh).signal(signal.SIGCONT)


class Swallowed(OnTarget):
    """The network swallows everything to and from the service."""

    async def inject(self, mesh: Mesh) -> None:
        """From now on nothing comes through."""
        self._node(mesh).link.freeze()

    async def heal(self, mesh: Mesh) -> None:
        """Everything comes through again, beginning with what was held up."""
        self._node(mesh).link.thaw()


class Delayed(OnTarget):
    """Everything to and from the service takes a tenth of a second longer."""

    async def inject(self, mesh: Mesh) -> None:
        """Delays both directions."""
        self._node(mesh).link.delay_seconds = 0.1

    async def heal(self, mesh: Mesh) -> None:
        """Ends the delay."""
        self._node(mesh).link.delay_seconds = 0.0


class Dripping(OnTarget):
    """Everything to and from the service comes a few bytes at a time."""

    async def inject(self, mesh: Mesh) -> None:
        """16 bytes every hundredth of a second."""
        link = self._node(mesh).link
        link.drip_bytes, link.delay_seconds = 16, 0.01

    async def heal(self, mesh: Mesh) -> None:
        """Everything comes as it was sent."""
        link = self._node(mesh).link
        link.drip_bytes, link.delay_seconds = None, 0.0


class Reset(OnTarget):
    """Connections to the service are reset in the middle of what they carry, again and again."""

    _EVERY_SECONDS = 0.2
    _TIMES = 5

    async def inject(self, mesh: Mesh) -> None:
        """Resets, some times over."""
        for _ in range(self._TIMES):
            self._node(mesh).link.reset()
            await asyncio.sleep(self._EVERY_SECONDS)

    async def heal(self, mesh: Mesh) -> None:
        """Nothing is left to do: whoever wants to may connect again."""


class Refused(OnTarget):
    """Connections to the service are cut, and new ones refused."""

    async def inject(self, mesh: Mesh) -> None:
        """Refuses, then cuts."""
        link = self._node(mesh).link
        await link.refuse()
        link.reset()

    async def heal(self, mesh: Mesh) -> None:
        """Connections are accepted again."""
        await self._node(mesh).link.accept()


class FullDisk(OnTarget):
    """Whatever the process writes to a file fails: its log, which goes to one, above all.

    The kernel refuses it as beyond the process's limit, at the same places and in the same way as
    for want of space, but with another number.
    """

    async def inject(self, mesh: Mesh) -> None:
        """No file may grow beyond nothing."""
        self._node(mesh).limit(resource.RLIMIT_FSIZE, 0)

    async def heal(self, mesh: Mesh) -> None:
        """Files may grow again; the process is started again if it has ended."""
        await self._node(mesh).ensure_running()
        self._node(mesh).limit(resource.RLIMIT_FSIZE, None)


class Starved(OnTarget):
    """The process gets no more memory than it has; what it asks for is refused."""

    async def inject(self, mesh: Mesh) -> None:
        """Limits its address space to less than it has already."""
        self._node(mesh).limit(resource.RLIMIT_AS, 0)

    async def heal(self, mesh: Mesh) -> None:
        """It can have memory again; the process is started again if it has ended."""
        await self._node(mesh).ensure_running()
        self._node(mesh).limit(resource.RLIMIT_AS, None)


class _ClockSet(OnTarget):
    """The wall clock jumps, and jumps back when it is healed. No deadline may depend on it."""

    _AHEAD_SECONDS = 3600

    def available(self, mesh: Mesh) -> bool:
        """Whether the mesh has the service, and the service a clock of its own."""
        return self.target in mesh.nodes and mesh.nodes[self.target].clock is not None

    async def inject(self, mesh: Mesh) -> None:
        """Sets it."""
        self._set_ahead(mesh, self._AHEAD_SECONDS)

    async def heal(self, mesh: Mesh) -> None:
        """Sets it right again; the process is started again if it has ended."""
        self._set_ahead(mesh, 0)
        await self._node(mesh).ensure_running()

    def _set_ahead(self, mesh: Mesh, seconds: int) -> None:
        clock = self._node(mesh).clock
        assert clock is not None
        clock.set_ahead(seconds)


class ClockAhead(_ClockSet):
    """The wall clock jumps an hour ahead."""


class ClockBehind(_ClockSet):
    """The wall clock jumps an hour back."""

    _AHEAD_SECONDS = -3600


@dataclass(frozen=True, slots=True)
class Both:
    """Two things at once."""

    one: Fault
    other: Fault

    def available(self, mesh: Mesh) -> bool:
        """Whether both can be done."""
        return self.one.available(mesh) and self.other.available(mesh)

    async def inject(self, mesh: Mesh) -> None:
        """Does both."""
        await asyncio.gather(self.one.inject(mesh), self.other.inject(mesh))

    async def heal(self, mesh: Mesh) -> None:
        """Undoes both."""
        await asyncio.gather(self.one.heal(mesh), self.other.heal(mesh))

    def __str__(self) -> str:
        return f"{self.one} and {self.other}"
