"""A process that imports what several programs need and forks them: they share its memory.

`python -P -m specfuse.localmesh.forkserver FD LAUNCHER MODULE...` runs it. FD is a Unix socket to
the launcher, whose process id is LAUNCHER; see `specfuse.localmesh.forking` for the other end.

Once it has imported what it can, and if no import started a thread, it says `READY`. Then each
message is a program to fork. A fork is a child of the launcher, as any program of a mesh is: the
process between the two ends at once, and the launcher inherits what it leaves (it is a subreaper).
The fork begins when the launcher, which has been told its id by then, says so. If either of them is
gone before, it ends. So there is never a program that its launcher does not know.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import shlex
import socket
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Final

from setproctitle import setproctitle, setthreadtitle

from specfuse.localmesh.handshake import die_with, handshake_options
from specfuse.localmesh.program import RUN_MODULE

READY: Final = b"ready"
BEGIN: Final = b"b"
MOST_BYTES: Final = 65_536
"""Of a message."""

_DESCRIPTORS: Final = 3
_BLAS_THREADS: Final = "OPENBLAS_NUM_THREADS"
"""numpy's library starts threads when it is imported, unless it is to have one."""


@dataclass(frozen=True, slots=True)
class Fork:
    """A program to fork: a module with its arguments, and where to run it.

    Three file descriptors go with it: the program's log, the pipe by which it says that it is
    ready, and the one by which it is told to begin.
    """

    module: str
    arguments: tuple[str, ...]
    directory: str

    def to_message(self) -> bytes:
        """The fork as the launcher sends it."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_message(cls, message: bytes) -> Fork:
        """The fork that the launcher sent."""
        fields = json.loads(message)
        return cls(fields["module"], tuple(fields["arguments"]), fields["directory"])


def main() -> int:
    """Serves until the launcher closes its end. In a fork, runs its program to the end."""
    descriptor, launcher, *modules = sys.argv[1:]
    die_with(int(launcher))
    with socket.socket(fileno=int(descriptor)) as requests:
        threads = os.environ.get(_BLAS_THREADS)
        os.environ[_BLAS_THREADS] = "1"
        _import(modules)
        if _threads() > 1:
            return 1
        requests.send(READY)
        program = _serve(requests)
    if program is None:
        return 0
    _restore(_BLAS_THREADS, threads)
    _run(*program, int(launcher))
    return 0


def _import(modules: Iterable[str]) -> None:
    """Imports what can be: what cannot is for the program that needs it to complain about."""
    gc.disable()
    for module in modules:
        with suppress(Exception):
            import_module(module)
    gc.enable()
    gc.freeze()  # looking for garbage there would copy the pages that forks share


def _threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def _serve(requests: socket.socket) -> tuple[Fork, int] | None:
    """Forks on demand. Returns None at the end; and in a fork, when it is to begin, what it is.

    The number is that of the pipe by which the fork says that it is ready.
    """
    while True:
        message, descriptors, _, _ = socket.recv_fds(requests, MOST_BYTES, _DESCRIPTORS)
        if not message:
            return None
        log, ready, begin = descriptors
        pid = _forked()
        if pid == 0:
            requests.close()
            _become(log)
            if os.read(begin, 1) != BEGIN:
                os._exit(1)
            os.close(begin)
            return Fork.from_message(message), ready
        for descriptor in descriptors:
            os.close(descriptor)
        requests.send(str(pid).encode())


def _forked() -> int:
    """The id of a new process that is the launcher's child; 0 in that process."""
    told, tell = os.pipe()
    between = os.fork()
    if between == 0:
        pid = os.fork()
        if pid == 0:
            os.close(told)
            os.close(tell)
            return 0
        os.write(tell, str(pid).encode())
        os._exit(0)
    os.close(tell)
    os.waitpid(between, 0)  # from here on the launcher is the parent
    with os.fdopen(told) as pipe:
        return int(pipe.read())


def _become(log: int) -> None:
    """Becomes a process like one that the launcher starts: a session, no input, a log."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDONLY)
    for descriptor, standard in ((null, 0), (log, 1), (log, 2)):
        os.dup2(descriptor, standard)
    os.close(null)
    os.close(log)


def _run(fork: Fork, ready: int, launcher: int) -> None:
    arguments = (*fork.arguments, *handshake_options(ready, launcher))
    setproctitle(shlex.join((*RUN_MODULE, fork.module, *arguments)))
    setthreadtitle(Path(sys.executable).name)
    os.chdir(fork.directory)
    sys.argv[1:] = arguments
    runpy.run_module(fork.module, run_name="__main__", alter_sys=True)


def _restore(variable: str, value: str | None) -> None:
    if value is None:
        del os.environ[variable]
    else:
        os.environ[variable] = value


if __name__ == "__main__":
    sys.exit(main())
