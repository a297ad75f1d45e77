"""Programs that begin as forks of processes that have imported what they need.

That is how programs of a mesh start fast and share memory, and nothing else about them differs:
they are the launcher's children, die with it, and log to files of their own. A process that cannot
fork them, or dies before it did, costs time and memory only: they are started by their command
lines then. Linux only; elsewhere that is done from the start.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, Protocol

from specfuse.localmesh.forkserver import BEGIN, MOST_BYTES, READY, Fork
from specfuse.localmesh.program import RUN_MODULE, Program

_FORK_SECONDS: Final = 10.0
"""A fork takes milliseconds. Whoever takes this long has been stopped."""
_PR_SET_CHILD_SUBREAPER: Final = 36


class Process(Protocol):
    """A child process, as `asyncio.subprocess.Process` has it."""

    @property
    def pid(self) -> int:
        """Its id."""

    @property
    def returncode(self) -> int | None:
        """None while it runs; negative if a signal ended it."""

    async def wait(self) -> int:
        """Its return code, once it ended."""

    def send_signal(self, number: signal.Signals, /) -> None:
        """Signals it. Does nothing if it has ended."""


class ForkedProcess:
    """A child process that a fork server made."""

    def __init__(self, pid: int) -> None:
        """`pid` must be a child of this process that nobody else waits for."""
        self.pid = pid
        self.returncode: int | None = None
        self._descriptor = os.pidfd_open(pid)
        self._ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._descriptor, self._reap)

    async def wait(self) -> int:
        """Its return code, once it ended."""
        await self._ended.wait()
        assert self.returncode is not None  # noqa: S101 (just set)
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        """Signals it. Does nothing if it has ended."""
        if self.returncode is None:
            signal.pidfd_send_signal(self._descriptor, number)

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
        _, status = os.waitpid(self.pid, 0)
        self.returncode = os.waitstatus_to_exitcode(status)
        self._ended.set()


class ForkServers:
    """A process for each set of imports that programs of a mesh have."""

    def __init__(self) -> None:
        self._servers: dict[tuple[str, ...], _ForkServer] = {}

    async def start(self, imports: Iterable[tuple[str, ...]]) -> None:
        """Starts a process for each that differs. They import while others go on."""
        if sys.platform != "linux" or not _may_watch_processes():
            return
        for modules in dict.fromkeys(filter(None, imports)):
            _adopt_orphans(adopt=True)
            self._servers[modules] = await _ForkServer.start(modules)

    async def forked(self, program: Program, log: Path, ready: int) -> Process | None:
        """The program, forked once its imports are there; None if it cannot be.

        It says that it is ready at the file descriptor `ready`, of which it gets a copy.
        """
        server = self._servers.get(program.imports)
        if server is None or program.argv[: len(RUN_MODULE)] != RUN_MODULE:
            return None
        if not await server.is_ready():
            return None
        pid = server.fork(program, log, ready)
        return None if pid is None else ForkedProcess(pid)

    async def close(self) -> None:
        """Ends the processes; what was forked goes on. Idempotent."""
        while self._servers:
            _, server = self._servers.popitem()
            await server.close()
            _adopt_orphans(adopt=bool(self._servers))


class _ForkServer:
    """One process, and the socket to it."""

    def __init__(self, process: asyncio.subprocess.Process, requests: socket.socket) -> None:
        self._process = process
        self._requests = requests
        self._waiting = asyncio.create_task(self._wait())

    @classmethod
    async def start(cls, modules: tuple[str, ...]) -> _ForkServer:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(0.0)
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(*RUN_MODULE, "specfuse.localmesh.forkserver"),
                *(str(theirs.fileno()), str(os.getpid()), *modules),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        return cls(process, ours)

    async def _wait(self) -> bool:
        try:
            return await asyncio.get_running_loop().sock_recv(self._requests, MOST_BYTES) == READY
        except OSError:
            return False

    async def is_ready(self) -> bool:
        """Whether it can fork, once that is known."""
        return await asyncio.shield(self._waiting)

    def fork(self, program: Program, log: Path, ready: int) -> int | None:
        """The id of the program, which has begun; None if there is none.

        Not a coroutine, as what begins must never be forgotten: it takes milliseconds.
        """
        module, *arguments = program.argv[len(RUN_MODULE) :]
        fork = Fork(module, tuple(arguments), str(program.directory.absolute()))
        with ExitStack() as stack:
            output = stack.enter_context(log.open("wb"))
            read_end, write_end = stack.enter_context(_pipe())
            descriptors = (output.fileno(), ready, read_end)
            try:
                self._requests.settimeout(_FORK_SECONDS)
                socket.send_fds(self._requests, [fork.to_message()], descriptors)
                answer = self._requests.recv(MOST_BYTES)
            except OSError:
                answer = b""
            if not answer:
                self._give_up()
                return None
            os.write(write_end, BEGIN)
            return int(answer)

    def _give_up(self) -> None:
        """Asks it for nothing more: a late answer would be taken for that to the next request."""
        self._requests.close()
        with suppress(ProcessLookupError):
            self._process.kill()

    async def close(self) -> None:
        self._waiting.cancel()
        await asyncio.gather(self._waiting, return_exceptions=True)
        self._give_up()
        await self._process.wait()


@contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    try:
        yield ends
    finally:
        for end in ends:
            os.close(end)


def _may_watch_processes() -> bool:
    """Whether the kernel, or what confines this process, lets it learn of a child's end."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return False
    return True


def _adopt_orphans(*, adopt: bool) -> None:
    """Whether what descendants of this process leave behind becomes its child."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, int(adopt), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER) failed")
