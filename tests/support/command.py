"""The command line as a user runs it: in processes of its own."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from specfuse.localmesh import ServiceAddresses
from tests.support.processes import wait_until_gone

COMMAND = (sys.executable, "-m", "specfuse.cli")
PATIENCE_SECONDS = 240
DRAIN_SECONDS = 10


def specfuse(
    *arguments: str, stdin: bytes | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end. Its output is text as the command wrote it."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        timeout=PATIENCE_SECONDS,
        env=os.environ | {"COLUMNS": "100"} | environment,
        check=False,
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


class Running:
    """A command that runs until it is ended."""

    def __init__(self, process: subprocess.Popen[str], ready: dict[str, object]) -> None:
        self.process = process
        self.ready = ready

    @property
    def pid(self) -> int:
        return self.process.pid

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
        """Signals it and waits for its end: its exit code, stdout and stderr."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> tuple[int, str, str]:
        """Waits for its end: its exit code, stdout and stderr."""
        stdout, stderr = self.process.communicate(timeout=PATIENCE_SECONDS)
        return self.process.returncode, stdout, stderr


@contextmanager
def running(
    *arguments: str,
    prefix: Sequence[str] = (),
    command: Sequence[str] = COMMAND,
    stderr: int | IO[bytes] = subprocess.PIPE,
) -> Iterator[Running]:
    """Runs a command that serves, from when it is ready. Ended at the end if it is still there.

    `prefix` is a command that runs it, and `command` what it is called there.
    """
    read_end, write_end = os.pipe()
    process = subprocess.Popen(
        [*prefix, *command, *arguments, "--ready-fd", str(write_end)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        pass_fds=(write_end,),
        env=os.environ | {"COLUMNS": "100"},
    )
    os.close(write_end)
    with process:
        try:
            yield Running(process, _ready_line(read_end, process))
        finally:
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """Ends the process: in good order, so that it cleans up, if it does so soon."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=DRAIN_SECONDS)
    process.kill()


def _ready_line(read_end: int, process: subprocess.Popen[str]) -> dict[str, object]:
    with os.fdopen(read_end) as pipe:
        came, _, _ = select.select([pipe], [], [], PATIENCE_SECONDS)
        line = pipe.readline() if came else ""
    if not line:
        process.kill()
        raise AssertionError(f"never got ready: {process.communicate()}")
    ready: dict[str, object] = json.loads(line)
    return ready


class RunningMesh:
    """A mesh run by `specfuse up`."""

    def __init__(self, up: Running) -> None:
        self.up = up
        self.fuser = ServiceAddresses(**up.ready["fuser"])
        self.models = {name: ServiceAddresses(**at) for name, at in up.ready["models"].items()}
        self.pids = _programs_of(up.pid)

    @property
    def address(self) -> str:
        return self.fuser.address

    def kill(self, *names: str) -> None:
        """Kills services and servers as the kernel would, and waits until they are gone."""
        for name in names:
            os.kill(self.pids[name], signal.SIGKILL)
        for name in names:
            wait_until_gone(self.pids[name])

    def wait_until_gone(self) -> None:
        """Waits until no process of the mesh is left."""
        for pid in (self.up.pid, *self.pids.values()):
            wait_until_gone(pid)


@contextmanager
def running_mesh(*arguments: str) -> Iterator[RunningMesh]:
    """A mesh from when it is ready until `specfuse up` is gone, and all others with it."""
    with running("up", *arguments) as up:
        mesh = RunningMesh(up)
        yield mesh
    mesh.wait_until_gone()


def metrics_of(endpoint: ServiceAddresses) -> str:
    """What Prometheus would be told now."""
    url = f"http://{endpoint.metrics_address}/metrics"
    with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as response:
        text: str = response.read().decode()
        return text


def _programs_of(pid: int) -> dict[str, int]:
    """The ids of the services and servers that `specfuse up` runs, by what it calls them.

    Each has its output in a log file of that name.
    """
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {Path(f"/proc/{child}/fd/1").readlink().stem: int(child) for child in children}
