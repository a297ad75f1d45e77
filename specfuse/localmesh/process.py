"""What a mesh runs, as child processes with their output in log files."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from specfuse.localmesh.forking import ForkServers, Process
from specfuse.localmesh.handshake import ServiceAddresses, handshake_options
from specfuse.localmesh.program import RUN_MODULE, Program

_TAIL_BYTES = 16_384
_TIED = (*RUN_MODULE, "specfuse.localmesh.tied")


class ChildProcess:
    """A started program, in a session of its own: a terminal's Ctrl-C reaches the launcher only."""

    def __init__(self, program: Program, process: Process, log: Path) -> None:
        self.program = program
        self.log = log
        self._process = process

    @property
    def name(self) -> str:
        """What it is called in the mesh."""
        return self.program.name

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative if a signal ended it."""
        return self._process.returncode

    async def ended(self) -> int:
        """Its exit code, once it ended."""
        return await self._process.wait()

    async def stop(self, drain_seconds: float) -> bool:
        """Asks it to drain and end. Kills it and returns False if it has not ended by then."""
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(drain_seconds):
                return await self._process.wait() != -signal.SIGKILL
        except TimeoutError:
            self.kill()
            await self._process.wait()
            return False

    def kill(self) -> None:
        """Ends it at once. Does nothing if it has ended."""
        self._signal(signal.SIGKILL)

    def last_lines(self, count: int) -> tuple[str, ...]:
        """The last non-empty lines of its log."""
        with self.log.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - _TAIL_BYTES))
            text = log.read().decode(errors="replace")
        return tuple(line for line in text.splitlines() if line.strip())[-count:]

    def _signal(self, number: signal.Signals) -> None:
        if self.exit_code is None:
            self._process.send_signal(number)


class ServiceProcess(ChildProcess):
    """One of our services, which says when it is ready."""

    def __init__(
        self,
        program: Program,
        process: Process,
        ready_pipe: asyncio.StreamReader,
        log: Path,
    ) -> None:
        super().__init__(program, process, log)
        self._ready_pipe = ready_pipe

    @classmethod
    async def start(
        cls, program: Program, log: Path, servers: ForkServers | None = None
    ) -> ServiceProcess:
        """Starts the program; what it prints goes to the file `log`. Forked if one can fork it.

        Must run in the launcher's main thread: the kernel ties the child's life to this thread's.
        """
        read_end, write_end = os.pipe()
        ready_pipe = await _reader(read_end)
        try:
            process = await servers.forked(program, log, write_end) if servers else None
            if process is None:
                argv = (*program.argv, *handshake_options(write_end, os.getpid()))
                process = await _started(argv, program.directory, log, write_end)
        finally:
            os.close(write_end)
        return cls(program, process, ready_pipe, log)

    async def ready(self) -> ServiceAddresses | None:
        """Where it listens, once it does; None if it ended instead."""
        line = await self._ready_pipe.readline()
        if line:
            return ServiceAddresses.from_line(line)
        await self._process.wait()
        return None


class ServerProcess(ChildProcess):
    """A server of another project, which knows nothing of its launcher."""

    @classmethod
    async def start(cls, program: Program, log: Path) -> ServerProcess:
        """Starts the program; what it prints goes to the file `log`. In the main thread, too."""
        argv = (*_TIED, str(os.getpid()), *program.argv)
        return cls(program, await _started(argv, program.directory, log), log)

    async def stop(self, drain_seconds: float) -> bool:
        """As for any; what it started and left behind is killed."""
        in_time = await super().stop(drain_seconds)
        self._kill_group()
        return in_time

    def kill(self) -> None:
        """Ends it, and what it started, at once. Does nothing if it has ended."""
        if self.exit_code is None:
            self._kill_group()

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError):  # nobody is left
            os.killpg(self.pid, signal.SIGKILL)


async def _started(
    argv: Iterable[str], directory: Path, log: Path, *kept_open: int
) -> asyncio.subprocess.Process:
    with log.open("wb") as output:
        return await asyncio.create_subprocess_exec(
            *argv,
            cwd=directory,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            pass_fds=kept_open,
            start_new_session=True,
        )


async def _reader(file_descriptor: int) -> asyncio.StreamReader:
    """A stream over the read end of a pipe; closes it at its end."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(file_descriptor, "rb")
    )
    return reader


def describe_exit(code: int) -> str:
    """`exit code 2`, or `killed by SIGKILL`."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
