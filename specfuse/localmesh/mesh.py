"""The life of a local mesh: models first, then the fuser that needs to know where they listen.

A model may run on a server of another project. That is started before the model's service, which
waits for it, and stopped after it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from specfuse.errors import DeadlineExceeded, Misconfigured, SpecFuseError, Unavailable
from specfuse.localmesh.forking import ForkServers
from specfuse.localmesh.handshake import ServiceAddresses
from specfuse.localmesh.process import (
    ChildProcess,
    ServerProcess,
    ServiceProcess,
    describe_exit,
)
from specfuse.localmesh.program import Program

T = TypeVar("T")

_CONFIGURATION_EXIT_CODE = 2
_REPORTED_LOG_LINES = 10


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run: the models, and the fuser once the models' addresses are known.

    `servers` are those of other projects, by the name of the model that runs on each.
    `fuser_imports` are the fuser's: they are had before the fuser is known.
    """

    models: tuple[Program, ...]
    fuser: Callable[[Mapping[str, ServiceAddresses]], Program]
    servers: Mapping[str, Program] = field(default_factory=dict)
    fuser_imports: tuple[str, ...] = ()

    @property
    def imports(self) -> tuple[tuple[str, ...], ...]:
        """What each of the services imports."""
        return (*(model.imports for model in self.models), self.fuser_imports)


@dataclass(frozen=True, slots=True)
class MeshAddresses:
    """Where a mesh listens: its fuser, and its models by name in the plan's order."""

    fuser: ServiceAddresses
    models: Mapping[str, ServiceAddresses]


@dataclass(frozen=True, slots=True)
class Launched:
    """The server that the model `name` runs on was started; the model waits for it now.

    `command` is the first word of its command line.
    """

    name: str
    command: str
    log: Path


@dataclass(frozen=True, slots=True)
class Ready:
    """A service answers, `seconds` after its start."""

    name: str
    addresses: ServiceAddresses
    seconds: float


@dataclass(frozen=True, slots=True)
class Died:
    """A service or a server ended without being asked to. `last_lines` are of its log file."""

    name: str
    how: str
    last_lines: tuple[str, ...]
    log: Path


@dataclass(frozen=True, slots=True)
class Stopped:
    """A service or a server ended as it was asked to; if not `drained`, it had to be killed."""

    name: str
    drained: bool


Event = Launched | Ready | Died | Stopped
"""What happens to the services of a mesh, and to the servers that they run on."""

Listener = Callable[[Event], None]
"""Told what happens, as it happens."""

Probe = Callable[[str], Coroutine[Any, Any, None]]
"""Returns when the service at an address is healthy; waits while it is not."""


class LocalMesh:
    """Starts a plan's programs, watches them and stops them.

    After `start`, `stop` must be called, whatever happened in between.
    """

    def __init__(self, plan: Plan, logs: Path, probe: Probe, listener: Listener) -> None:
        """`logs` is an existing directory; each program gets the file `NAME.log` there."""
        self._plan = plan
        self._logs = logs
        self._probe = probe
        self._listen = listener
        self._fork_servers = ForkServers()
        self._servers: dict[str, ServerProcess] = {}
        self._started: dict[str, ServiceProcess] = {}
        self._fuser: ServiceProcess | None = None
        self._ready: set[str] = set()

    async def start(self, timeout_seconds: float) -> MeshAddresses:
        """Starts everything and waits until it is healthy.

        Raises:
            Misconfigured: a service refused its settings.
            Unavailable: a service, or the server of one, ended before it was ready.
            DeadlineExceeded: `timeout_seconds` were not enough.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._fork_servers.start(self._plan.imports)
                models = await self._start_models()
                fuser = await self._start_fuser(self._plan.fuser(models))
                return MeshAddresses(fuser, models)
        except TimeoutError:
            raise DeadlineExceeded(
                f"the mesh was not ready within {timeout_seconds:g} s; it waited for "
                f"{', '.join(self._waited_for())}; the logs in {self._logs} say how far it got"
            ) from None
        finally:
            await self._fork_servers.close()

    async def watch(self) -> None:
        """Tells the listener of everything that dies. Returns when the fuser has."""
        fuser = self._fuser
        if fuser is None:
            raise ValueError("only a started mesh can be watched")
        async with asyncio.TaskGroup() as group:
            others = [*self._models, *self._servers.values()]
            watching = [group.create_task(self._report_death(process)) for process in others]
            await self._report_death(fuser)
            for one in watching:
                one.cancel()

    async def stop(self, drain_seconds: float) -> None:
        """Stops the fuser, then the models, then their servers.

        Each has `drain_seconds` to finish what it does.
        """
        if self._fuser is not None:
            await self._stop([self._fuser], drain_seconds)
        await self._stop(self._models, drain_seconds)
        await self._stop(self._servers.values(), drain_seconds)

    def kill(self) -> None:
        """Ends every process at once. A `stop` under way then has nothing left to wait for."""
        for process in self._processes():
            process.kill()

    async def _start_models(self) -> dict[str, ServiceAddresses]:
        for program in self._plan.models:
            if program.name in self._plan.servers:
                await self._launch(program.name, self._plan.servers[program.name])
        try:
            async with asyncio.TaskGroup() as group:
                tasks = {
                    program.name: group.create_task(self._start_model(program))
                    for program in self._plan.models
                }
        except* SpecFuseError as failures:
            raise failures.exceptions[0] from None
        return {name: task.result() for name, task in tasks.items()}

    async def _start_model(self, program: Program) -> ServiceAddresses:
        began = time.monotonic()
        self._started[program.name] = model = await self._spawn(program)
        return await self._until_ready_on_server(model, began)

    async def _start_fuser(self, program: Program) -> ServiceAddresses:
        began = time.monotonic()
        self._fuser = await self._spawn(program)
        return await self._until_ready(self._fuser, began)

    async def _launch(self, model: str, program: Program) -> None:
        server = await ServerProcess.start(program, self._log_of(program))
        self._servers[model] = server
        self._listen(Launched(model, program.argv[0], server.log))

    async def _spawn(self, program: Program) -> ServiceProcess:
        return await ServiceProcess.start(program, self._log_of(program), self._fork_servers)

    def _log_of(self, program: Program) -> Path:
        return self._logs / f"{program.name}.log"

    async def _until_ready_on_server(self, model: ServiceProcess, began: float) -> ServiceAddresses:
        """Where the model listens, unless the server that it runs on, if any, ends before."""
        server = self._servers.get(model.name)
        if server is None:
            return await self._until_ready(model, began)
        try:
            return await _unless_ended(server, self._until_ready(model, began))
        except _Ended:
            how = self._told_death(server)
            raise Unavailable(
                f"{model.name}: its server {server.program.argv[0]} ended: {how}; "
                f"its log is {server.log}"
            ) from None

    async def _until_ready(self, process: ServiceProcess, began: float) -> ServiceAddresses:
        addresses = await process.ready()
        if addresses is None:
            raise self._death(process)
        try:
            await _unless_ended(process, self._probe(addresses.address))
        except _Ended:
            raise self._death(process) from None
        self._ready.add(process.name)
        self._listen(Ready(process.name, addresses, time.monotonic() - began))
        return addresses

    async def _report_death(self, process: ChildProcess) -> None:
        await process.ended()
        self._told_death(process)

    def _told_death(self, process: ChildProcess) -> str:
        """Tells the listener that the process died. Returns how."""
        how = describe_exit(process.exit_code or 0)
        lines = process.last_lines(_REPORTED_LOG_LINES)
        self._listen(Died(process.name, how, lines, process.log))
        return how

    def _death(self, service: ServiceProcess) -> SpecFuseError:
        """Reports that the service died, and the error that says so in one line."""
        how = self._told_death(service)
        said = service.last_lines(1)
        if service.exit_code == _CONFIGURATION_EXIT_CODE and said:
            return Misconfigured(f"{service.name}: {said[0].removeprefix('specfuse: ')}")
        return Unavailable(f"{service.name} ended: {how}; its log is {service.log}")

    async def _stop(self, processes: Iterable[ChildProcess], drain_seconds: float) -> None:
        running = [process for process in processes if process.exit_code is None]
        in_time = await asyncio.gather(*(process.stop(drain_seconds) for process in running))
        for process, drained in zip(running, in_time, strict=True):
            self._listen(Stopped(process.name, drained))

    def _processes(self) -> list[ChildProcess]:
        return [*self._servers.values(), *self._services()]

    def _waited_for(self) -> list[str]:
        """Who is not ready, of those that could be."""
        models = (program.name for program in self._plan.models)
        names = [*models, *([] if self._fuser is None else [self._fuser.name])]
        return [name for name in names if name not in self._ready]

    @property
    def _models(self) -> list[ServiceProcess]:
        """Those that were started, in the plan's order."""
        names = (program.name for program in self._plan.models)
        return [self._started[name] for name in names if name in self._started]

    def _services(self) -> list[ServiceProcess]:
        return [*self._models, *([] if self._fuser is None else [self._fuser])]


class _Ended(Exception):
    """A process ended that something depends on."""


async def _unless_ended(process: ChildProcess, work: Coroutine[Any, Any, T]) -> T:
    """The work's result.

    Raises:
        _Ended: the process ended before; the work was cancelled.
    """
    working = asyncio.create_task(work)
    ending = asyncio.create_task(process.ended())
    try:
        await asyncio.wait((working, ending), return_when=asyncio.FIRST_COMPLETED)
        if ending.done():
            raise _Ended
        return working.result()
    finally:
        for task in (working, ending):
            task.cancel()
        await asyncio.gather(working, ending, return_exceptions=True)
