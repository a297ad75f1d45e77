"""Programs that are forked: what they share, what they are to the kernel, and what if they cannot.

What the launcher makes of them otherwise is in `test_local_mesh`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from specfuse.localmesh import ServiceAddresses, forking
from specfuse.localmesh.forking import ForkServers
from specfuse.localmesh.process import ServiceProcess
from specfuse.localmesh.program import RUN_MODULE, Program
from tests.support import processes
from tests.support.repository import REPOSITORY

NOTING = "tests.support.noted_import"
ENDPOINT = ServiceAddresses("127.0.0.1:1", "127.0.0.1:2")


@pytest.fixture
def noted(monkeypatch, tmp_path) -> Path:
    """The file that has the id of each process that imported `NOTING`."""
    file = tmp_path / "noted"
    monkeypatch.setenv("NOTED_IMPORTS", str(file))
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    return file


def program(name: str, behaviour: str = "serve") -> Program:
    argv = (*RUN_MODULE, "tests.support.trivial_service", behaviour)
    return Program(name, argv, REPOSITORY, (NOTING, "json"))


class Scene:
    """Fork servers for `program`, and what was begun."""

    def __init__(self, logs: Path) -> None:
        self.servers = ForkServers()
        self._logs = logs
        self._begun: list[ServiceProcess] = []

    async def begin(self, name: str, behaviour: str = "serve") -> ServiceProcess:
        log = self._logs / f"{name}.log"
        process = await ServiceProcess.start(program(name, behaviour), log, self.servers)
        self._begun.append(process)
        return process

    @property
    def server(self) -> int:
        """The process id of the fork server."""
        (server,) = self.servers._servers.values()
        return server._process.pid

    async def __aenter__(self) -> Scene:
        await self.servers.start([program("any").imports, (), program("other").imports])
        return self

    async def __aexit__(self, *_exc_info) -> None:
        await self.servers.close()
        for process in self._begun:
            process.kill()
            await process.ended()


def shared_kibibytes(pid: int) -> int:
    """What was written before the fork, and not since."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    (shared,) = (line for line in rollup.splitlines() if line.startswith("Shared_Dirty"))
    return int(shared.split()[1])


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


async def test_imports_are_shared_by_all_that_have_the_same(noted, tmp_path):
    async with Scene(tmp_path) as scene:
        first, second = await scene.begin("first"), await scene.begin("second")
        assert await first.ready() == await second.ready() == ENDPOINT
        assert noted.read_text().split() == [str(scene.server)]
        for process in (first, second):
            assert shared_kibibytes(process.pid) > 1024


async def test_a_fork_is_to_the_kernel_what_a_started_program_is(noted, tmp_path):
    forked = program("forked")
    async with Scene(tmp_path) as scene:
        process = await scene.begin("forked")
        await process.ready()
        await scene.servers.close()
        proc = Path(f"/proc/{process.pid}")
        assert parent_of(process.pid) == os.getpid()
        assert os.getsid(process.pid) == process.pid
        assert (proc / "cwd").readlink() == REPOSITORY
        assert (proc / "fd/0").readlink() == Path(os.devnull)
        assert (proc / "fd/1").readlink() == (proc / "fd/2").readlink() == tmp_path / "forked.log"
        command = (proc / "cmdline").read_text().rstrip("\0")
        assert command.startswith(f"{' '.join(forked.argv)} --ready-fd ")
        assert (proc / "comm").read_text().strip() == Path(sys.executable).name
        started = await ServiceProcess.start(forked, tmp_path / "started.log")
        await started.ready()
        assert open_files(process.pid) == open_files(started.pid)
        assert max(open_pipes(process.pid), open_pipes(started.pid)) <= 1, "that of its addresses"
        started.kill()
        await started.ended()


def open_files(pid: int) -> int:
    """Without pipes: the one that its addresses were written to may not be closed yet."""
    return len(targets(pid)) - open_pipes(pid)


def open_pipes(pid: int) -> int:
    return sum(target.startswith("pipe:") for target in targets(pid))


def targets(pid: int) -> list[str]:
    """What the process has open."""
    found = []
    for one in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found.append(str(one.readlink()))
    return found


async def test_forks_outlive_their_server_and_only_that(noted, tmp_path):
    async with Scene(tmp_path) as scene:
        process = await scene.begin("forked")
        server = scene.server
        os.kill(server, signal.SIGKILL)
        processes.wait_until_gone(server)
        assert await process.ready() == ENDPOINT
        assert await process.stop(10)
        assert process.exit_code == 0
        assert "ended by SIGTERM" in (tmp_path / "forked.log").read_text()


async def test_without_its_server_a_program_is_started(noted, tmp_path):
    async with Scene(tmp_path) as scene:
        await (await scene.begin("forked")).ready()
        os.kill(scene.server, signal.SIGKILL)
        process = await scene.begin("started")
        assert await process.ready() == ENDPOINT
        assert parent_of(process.pid) == os.getpid()


async def test_a_server_that_is_killed_while_it_imports_is_done_without(
    noted, tmp_path, monkeypatch
):
    os.mkfifo(noted)
    monkeypatch.setenv("WHILE_IMPORTING", "hang")
    async with Scene(tmp_path) as scene:
        beginning = asyncio.create_task(scene.begin("started"))
        assert int(await asyncio.to_thread(noted.read_text)) == scene.server
        os.kill(scene.server, signal.SIGKILL)
        assert await (await beginning).ready() == ENDPOINT


async def test_a_server_that_was_stopped_is_waited_for_no_longer_than_a_fork_may_take(
    noted, tmp_path, monkeypatch
):
    monkeypatch.setattr(forking, "_FORK_SECONDS", 0.2)
    async with Scene(tmp_path) as scene:
        await (await scene.begin("forked")).ready()
        os.kill(scene.server, signal.SIGSTOP)
        assert await (await scene.begin("started")).ready() == ENDPOINT


async def test_a_late_answer_is_never_taken_for_that_to_the_next_request(
    noted, tmp_path, monkeypatch
):
    monkeypatch.setattr(forking, "_FORK_SECONDS", 0.2)
    async with Scene(tmp_path) as scene:
        await (await scene.begin("forked")).ready()
        server = scene.server
        os.kill(server, signal.SIGSTOP)
        first = await scene.begin("first")
        processes.wait_until_gone(server)
        second = await scene.begin("second")
        assert await first.ready() == await second.ready() == ENDPOINT


async def test_where_the_end_of_a_process_cannot_be_learned_of_nothing_is_forked(
    noted, tmp_path, monkeypatch
):
    def forbidden(_pid: int) -> int:
        raise PermissionError(errno.EPERM, "as a sandbox has it")

    monkeypatch.setattr(os, "pidfd_open", forbidden)
    async with Scene(tmp_path) as scene:
        assert await (await scene.begin("started")).ready() == ENDPOINT
        assert not scene.servers._servers


async def test_a_server_with_a_thread_forks_nothing(noted, tmp_path, monkeypatch):
    monkeypatch.setenv("WHILE_IMPORTING", "thread")
    async with Scene(tmp_path) as scene:
        server = scene.server
        process = await scene.begin("started")
        assert await process.ready() == ENDPOINT
        processes.wait_until_gone(server)


async def test_what_cannot_be_imported_is_for_the_program_to_complain_about(
    noted, tmp_path, monkeypatch
):
    monkeypatch.setenv("WHILE_IMPORTING", "fail")
    async with Scene(tmp_path) as scene:
        process = await scene.begin("forked")
        assert await process.ready() == ENDPOINT
        os.kill(scene.server, 0)


async def test_an_exit_code_is_the_programs_own(noted, tmp_path):
    async with Scene(tmp_path) as scene:
        process = await scene.begin("refused", "refuse")
        assert await process.ready() is None
        assert process.exit_code == 2
        assert process.last_lines(1) == (
            "settings.yaml:3: colour: unknown key; did you mean color?",
        )


LAUNCHER = """
import asyncio, sys
from pathlib import Path
from tests.e2e.test_forked_programs import Scene

async def main():
    async with Scene(Path(sys.argv[1])) as scene:
        print(scene.server, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def test_a_launcher_that_is_killed_leaves_no_server_behind(noted, tmp_path, monkeypatch):
    monkeypatch.setenv("WHILE_IMPORTING", "hang")
    with subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, str(tmp_path)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    ) as launcher:
        assert launcher.stdout is not None
        server = int(launcher.stdout.readline())
        launcher.kill()
        processes.wait_until_gone(server)
