"""Runs a local mesh around some work: start, work, drain, whatever happens in between."""

from __future__ import annotations

import asyncio
import shutil
import signal
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from specfuse.errors import DeadlineExceeded, Misconfigured, Unavailable
from specfuse.localmesh import Died, Event, Listener, LocalMesh, MeshAddresses
from specfuse.rpc.channels import open_channel

T = TypeVar("T")

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):
    """A signal asked for the end. The mesh was drained."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long, in seconds, a mesh may take to start, and each of its services to drain."""

    start_seconds: float
    drain_seconds: float


async def run_mesh(
    mesh: LocalMesh, patience: Patience, work: Callable[[MeshAddresses], Awaitable[T]]
) -> T:
    """Starts the mesh, does the work with it, and stops it again.

    The first SIGINT, SIGTERM or SIGHUP cancels the work and drains the mesh, the second kills it.

    Raises:
        Interrupted: there was such a signal.
        Unavailable: a service, or its server, ended before it was ready, or the fuser later.
        Misconfigured: a service refused its settings.
        DeadlineExceeded: the mesh took too long to start.
    """
    task = asyncio.create_task(_work(mesh, patience, work))
    loop = asyncio.get_running_loop()
    signalled = False

    def interrupt() -> None:
        nonlocal signalled
        if signalled:
            mesh.kill()
        signalled = True
        task.cancel()

    for number in _SIGNALS:
        loop.add_signal_handler(number, interrupt)
    try:
        await asyncio.wait((task,))
        if task.cancelled():
            raise Interrupted
        return task.result()
    finally:
        await mesh.stop(patience.drain_seconds)
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


async def _work(
    mesh: LocalMesh, patience: Patience, work: Callable[[MeshAddresses], Awaitable[T]]
) -> T:
    addresses = await mesh.start(patience.start_seconds)
    working = asyncio.ensure_future(work(addresses))
    watching = asyncio.create_task(mesh.watch())
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise Unavailable("the fuser ended, and with it the mesh")
    finally:
        for task in (working, watching):
            task.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def until_serving(address: str) -> None:
    """Returns once the service at `address` says by the standard health service that it serves."""
    async with open_channel(address) as channel:
        watching = HealthStub(channel).Watch(HealthCheckRequest(), wait_for_ready=True)
        async for response in watching:
            if response.status == HealthCheckResponse.SERVING:
                return


@contextmanager
def logs_in(chosen: Path | None) -> Iterator[Logs]:
    """Logs in the chosen directory, made if needed; else in a new one, removed if all goes well.

    Raises:
        Misconfigured: the chosen directory cannot be made.
    """
    if chosen is not None:
        yield Logs(_made(chosen))
        return
    logs = Logs(Path(tempfile.mkdtemp(prefix="specfuse-")))
    try:
        yield logs
    except DeadlineExceeded:
        logs.wanted = True  # they say how far the start got
        raise
    finally:
        if not logs.wanted:
            shutil.rmtree(logs.directory)


class Logs:
    """The directory that a mesh's logs and settings go to, and whether somebody will want them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.wanted = False

    def watching(self, listener: Listener) -> Listener:
        """A listener that passes everything on, and wants the logs if a service died."""

        def listen(event: Event) -> None:
            self.wanted |= isinstance(event, Died)
            listener(event)

        return listen


def _made(directory: Path) -> Path:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Misconfigured(f"--log-dir {directory}: cannot be made: {error.strerror}") from error
    return directory.absolute()
