"""What is looked at while a container runs: whether it has started, is ready, and is alive."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.cluster.api import Object
from tests.cluster.kubelet.probes import Target, keep_probing, look_of
from tests.cluster.kubelet.status import Record

Tell = Callable[[bool], Awaitable[None]]


@dataclass(slots=True)
class Checks:
    """The probes of one run. `failed` is told the probe because of which the run must end."""

    spec: Object
    target: Target
    record: Record
    changed: Callable[[], None]
    failed: Callable[[Mapping[str, Any]], None]
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _readiness: list[asyncio.Task[None]] = field(default_factory=list)

    def begin(self, prepare: Callable[[], Awaitable[None]]) -> None:
        """Begins, once what `prepare` does is done."""
        self._tasks.append(asyncio.create_task(self._follow(prepare)))

    def end_but_readiness(self) -> None:
        """The run is ending: only readiness is still looked at."""
        for task in self._tasks:
            task.cancel()

    async def end(self) -> None:
        """The run has ended."""
        tasks = [*self._tasks, *self._readiness]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.record.started = self.record.ready = False

    async def _follow(self, prepare: Callable[[], Awaitable[None]]) -> None:
        await prepare()
        if "startupProbe" in self.spec:
            await self._until_started(self.spec["startupProbe"])
        self.record.started = True
        self.record.ready = "readinessProbe" not in self.spec
        self.changed()
        if "readinessProbe" in self.spec:
            self._readiness.append(self._probing(self.spec["readinessProbe"], self._is_ready))
        if "livenessProbe" in self.spec:
            probe = self.spec["livenessProbe"]
            self._tasks.append(self._probing(probe, self._fails_with(probe)))

    async def _until_started(self, probe: Mapping[str, Any]) -> None:
        started = asyncio.Event()
        fails = self._fails_with(probe)

        async def tell(good: bool) -> None:
            if good:
                started.set()
            await fails(good)

        probing = self._probing(probe, tell)
        try:
            await started.wait()
        finally:
            probing.cancel()

    def _probing(self, probe: Mapping[str, Any], tell: Tell) -> asyncio.Task[None]:
        return asyncio.create_task(keep_probing(probe, look_of(probe, self.target), tell))

    async def _is_ready(self, ready: bool) -> None:
        if self.record.ready != ready:
            self.record.ready = ready
            self.changed()

    def _fails_with(self, probe: Mapping[str, Any]) -> Tell:
        async def tell(good: bool) -> None:
            if not good:
                self.failed(probe)

        return tell
