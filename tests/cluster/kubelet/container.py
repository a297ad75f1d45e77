"""One container of a pod: its runs, one after the other, and what is known of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from tests.cluster.api import Object
from tests.cluster.kubelet.checks import Checks
from tests.cluster.kubelet.identity import Refused
from tests.cluster.kubelet.payload import Missing
from tests.cluster.kubelet.probes import Target, answers
from tests.cluster.kubelet.process import Process
from tests.cluster.kubelet.room import Room
from tests.cluster.kubelet.status import Record, now, waiting

_AGAIN_SECONDS: Final = 1.0
"""After so long what could not be started is tried again."""

_FIRST_BACKOFF_SECONDS, _LONGEST_BACKOFF_SECONDS = 1.0, 16.0
"""Between runs; the first restart is immediate. The real kubelet waits ten times as long."""

_FORGIVEN_SECONDS: Final = 60.0
"""A run that lasted so long was a good one: waiting begins anew."""

_LEAST_SECONDS: Final = 2.0
"""What a process has between SIGTERM and SIGKILL, however long its hook took."""


class Container:
    """A container, from when it is made until it is not to run any more."""

    def __init__(self, spec: Object, room: Room, *, restarts: str, sidecar: bool = False) -> None:
        """`restarts` is the pod's policy, or the container's own."""
        self.record = Record(spec["name"], spec["image"], sidecar)
        self._spec = spec
        self._room = room
        self._restarts = restarts
        self._process: Process | None = None
        self._checks: Checks | None = None
        self._stopping = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts it; from now on it is kept running, as its policy says."""
        self._running = asyncio.create_task(self._keep_running())

    async def stop(self, seconds: float) -> None:
        """Ends it: its hook, SIGTERM, and SIGKILL at the end of this time. Idempotent."""
        self._stopping.set()
        if self._running is not None:
            await self._end(seconds)
            await self._running
        self.record.over = True

    async def _keep_running(self) -> None:
        backoff = 0.0
        while not self._stopping.is_set():
            began = time.monotonic()
            if not await self._run_once():
                await self._pause(_AGAIN_SECONDS)
                continue
            if not self._is_started_again():
                break
            if time.monotonic() - began > _FORGIVEN_SECONDS:
                backoff = 0.0
            await self._wait_to_restart(backoff)
            backoff = min(max(2 * backoff, _FIRST_BACKOFF_SECONDS), _LONGEST_BACKOFF_SECONDS)
        self.record.over = True
        self._room.changed()

    async def _run_once(self) -> bool:
        """Runs it to its end. Whether it could be started at all."""
        record = self.record
        try:
            self._process = process = await Process.start(self._spec, self._room, record.restarts)
        except Missing as error:
            self._waits("CreateContainerConfigError", str(error))
            return False
        except Refused as error:
            self._waits(error.reason, str(error))
            return False
        began = now()
        record.id = f"process://{process.pid}"
        record.state = {"running": {"startedAt": began}}
        self._room.changed()
        self._checks = checks = self._new_checks(process)
        checks.begin(self._prepare)
        exit_code = await process.ended()
        self._process = self._checks = None
        await checks.end()
        record.state = {"terminated": _ended(exit_code, began, record.id)}
        self._room.changed()
        return True

    def _waits(self, reason: str, message: str) -> None:
        self.record.state = waiting(reason, message)
        self._room.changed()

    def _is_started_again(self) -> bool:
        if self._stopping.is_set() or self._restarts == "Never":
            return False
        return self._restarts == "Always" or self.record.exit_code != 0

    async def _wait_to_restart(self, seconds: float) -> None:
        self.record.last_state = self.record.state
        if seconds:
            self._waits("CrashLoopBackOff", f"back-off {seconds:.0f}s restarting failed container")
            await self._pause(seconds)
        if self._stopping.is_set():
            self.record.state = self.record.last_state
        else:
            self.record.restarts += 1

    async def _pause(self, seconds: float) -> None:
        """Waits so long, or until it is stopped."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    def _new_checks(self, process: Process) -> Checks:
        return Checks(
            spec=self._spec,
            target=self._target(process),
            record=self.record,
            changed=self._room.changed,
            failed=self._end_for,
        )

    def _target(self, process: Process) -> Target:
        named = (one for one in self._spec.get("ports", ()) if "name" in one)
        ports = {one["name"]: one["containerPort"] for one in named}
        return Target(str(self._room.sandbox.address), ports, process.execute)

    async def _prepare(self) -> None:
        """What a container is to have done before it counts as started."""
        await self._run_hook("postStart")

    def _end_for(self, probe: Mapping[str, Any]) -> None:
        """Ends the run because of a probe, in the background: probing ends with the run."""
        seconds = probe.get("terminationGracePeriodSeconds", self._room.grace_seconds)
        if self._ending is None or self._ending.done():
            self._ending = asyncio.create_task(self._end(seconds))

    async def _end(self, seconds: float) -> None:
        """Ends the run: the hook, SIGTERM, and SIGKILL at the end of this time."""
        process, checks = self._process, self._checks
        if process is None or checks is None:
            return
        checks.end_but_readiness()
        until = time.monotonic() + seconds
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._run_hook("preStop")
        process.terminate()
        with suppress(TimeoutError):
            async with asyncio.timeout(max(until - time.monotonic(), _LEAST_SECONDS)):
                await process.ended()
        process.kill()

    async def _run_hook(self, name: str) -> None:
        hook = self._spec.get("lifecycle", {}).get(name, {})
        process = self._process
        if "sleep" in hook:
            await asyncio.sleep(hook["sleep"]["seconds"])
        elif "exec" in hook and process is not None:
            await process.execute(hook["exec"]["command"])
        elif "httpGet" in hook and process is not None:
            with suppress(OSError):
                await answers(hook["httpGet"], self._target(process))


def _ended(exit_code: int, began: str, container: str) -> dict[str, Any]:
    """The state of a container that has ended."""
    return {
        "exitCode": exit_code,
        "reason": "Completed" if exit_code == 0 else "Error",
        "startedAt": began,
        "finishedAt": now(),
        "containerID": container,
    }
