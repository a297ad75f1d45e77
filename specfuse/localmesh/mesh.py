"""The life of a local mesh: models first, then the fuser that needs to know where they listen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from specfuse.errors import DeadlineExceeded, Misconfigured, SpecFuseError, Unavailable
from specfuse.localmesh.handshake import ServiceAddresses
from specfuse.localmesh.process import Program, ServiceProcess, describe_exit

_CONFIGURATION_EXIT_CODE = 2
_REPORTED_LOG_LINES = 10


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run: the models, and the fuser once the models' addresses are known."""

    models: tuple[Program, ...]
    fuser: Callable[[Mapping[str, ServiceAddresses]], Program]


@dataclass(frozen=True, slots=True)
class MeshAddresses:
    """Where a mesh listens: its fuser, and its models by name in the plan's order."""

    fuser: ServiceAddresses
    models: Mapping[str, ServiceAddresses]


@dataclass(frozen=True, slots=True)
class Ready:
    """A service answers, `seconds` after its start."""

    name: str
    addresses: ServiceAddresses
    seconds: float


@dataclass(frozen=True, slots=True)
class Died:
    """A service ended without being asked to. `last_lines` are of its log file."""

    name: str
    how: str
    last_lines: tuple[str, ...]
    log: Path


@dataclass(frozen=True, slots=True)
class Stopped:
    """A service ended as it was asked to: by draining if `drained`, else it had to be killed."""

    name: str
    drained: bool


Listener = Callable[[Ready | Died | Stopped], None]
"""Told what happens to the services of a mesh, as it happens."""

Probe = Callable[[str], Awaitable[None]]
"""Returns when the service at an address is healthy; waits while it is not."""


class LocalMesh:
    """Starts a plan's programs, watches them and stops them.

    After `start`, `stop` must be called, whatever happened in between.
    """

    def __init__(self, plan: Plan, logs: Path, probe: Probe, listener: Listener) -> None:
        """`logs` is an existing directory; each service gets the file `NAME.log` there."""
        self._plan = plan
        self._logs = logs
        self._probe = probe
        self._listen = listener
        self._models: list[ServiceProcess] = []
        self._fuser: ServiceProcess | None = None

    async def start(self, timeout_seconds: float) -> MeshAddresses:
        """Starts everything and waits until it is healthy.

        Raises:
            Misconfigured: a service refused its settings.
            Unavailable: a service ended before it was ready.
            DeadlineExceeded: `timeout_seconds` were not enough.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                models = await self._start_models()
                self._fuser = await self._spawn(self._plan.fuser(models))
                return MeshAddresses(await self._until_ready(self._fuser), models)
        except TimeoutError:
            raise DeadlineExceeded(
                f"the mesh was not ready within {timeout_seconds:g} s; "
                f"the logs in {self._logs} say how far it got"
            ) from None

    async def watch(self) -> None:
        """Tells the listener of every service that dies. Returns when the fuser has."""
        fuser = self._fuser
        if fuser is None:
            raise ValueError("only a started mesh can be watched")
        async with asyncio.TaskGroup() as group:
            models = [group.create_task(self._report_death(model)) for model in self._models]
            await self._report_death(fuser)
            for model in models:
                model.cancel()

    async def stop(self, drain_seconds: float) -> None:
        """Stops the fuser, then the models, each with `drain_seconds` to finish what it does."""
        if self._fuser is not None:
            await self._stop([self._fuser], drain_seconds)
        await self._stop(self._models, drain_seconds)

    def kill(self) -> None:
        """Ends every process at once. A `stop` under way then has nothing left to wait for."""
        for process in self._processes():
            process.kill()

    async def _start_models(self) -> dict[str, ServiceAddresses]:
        for program in self._plan.models:
            self._models.append(await self._spawn(program))
        try:
            async with asyncio.TaskGroup() as group:
                tasks = {
                    model.name: group.create_task(self._until_ready(model))
                    for model in self._models
                }
        except* SpecFuseError as failures:
            raise failures.exceptions[0] from None
        return {name: task.result() for name, task in tasks.items()}

    async def _spawn(self, program: Program) -> ServiceProcess:
        return await ServiceProcess.start(program, self._logs / f"{program.name}.log")

    async def _until_ready(self, process: ServiceProcess) -> ServiceAddresses:
        started = time.monotonic()
        addresses = await process.ready()
        if addresses is None or not await self._becomes_healthy(process, addresses.address):
            raise self._death(process)
        self._listen(Ready(process.name, addresses, time.monotonic() - started))
        return addresses

    async def _becomes_healthy(self, process: ServiceProcess, address: str) -> bool:
        """True once the service is healthy; False if it ends before."""
        healthy = asyncio.ensure_future(self._probe(address))
        ended = asyncio.ensure_future(process.ended())
        try:
            await asyncio.wait((healthy, ended), return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                return False
            await healthy
            return True
        finally:
            healthy.cancel()
            ended.cancel()

    async def _report_death(self, process: ServiceProcess) -> None:
        await process.ended()
        self._death(process)

    def _death(self, process: ServiceProcess) -> SpecFuseError:
        """Reports that the process died, and the error that says so in one line."""
        code = process.exit_code or 0
        lines = process.last_lines(_REPORTED_LOG_LINES)
        self._listen(Died(process.name, describe_exit(code), lines, process.log))
        if code == _CONFIGURATION_EXIT_CODE and lines:
            said = lines[-1].removeprefix("specfuse: ")
            return Misconfigured(f"{process.name}: {said}")
        return Unavailable(f"{process.name} ended: {describe_exit(code)}; its log is {process.log}")

    async def _stop(self, processes: Iterable[ServiceProcess], drain_seconds: float) -> None:
        running = [process for process in processes if process.exit_code is None]
        in_time = await asyncio.gather(*(process.stop(drain_seconds) for process in running))
        for process, drained in zip(running, in_time, strict=True):
            self._listen(Stopped(process.name, drained))

    def _processes(self) -> list[ServiceProcess]:
        return [*self._models, *([] if self._fuser is None else [self._fuser])]
