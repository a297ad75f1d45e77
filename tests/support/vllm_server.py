"""A real vLLM server, in processes of its own and on a port of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.support.repository import REPOSITORY

START_SECONDS: Final = 900.0
"""It imports for minutes on a busy machine of two cores."""

_LOOK_SECONDS: Final = 0.5
_DEFAULT_PLACE = REPOSITORY / ".servers" / "vllm" / "bin" / "vllm-server"
_FLAGS: Final = (
    *("--host", "127.0.0.1", "--dtype", "float32", "--max-model-len", "1024"),
    *("--enforce-eager", "--enable-prompt-tokens-details"),
)


def executable() -> Path:
    """What `SPECFUSE_VLLM_SERVER` says, else where `tests/servers/install_vllm.sh` puts it."""
    return Path(os.environ.get("SPECFUSE_VLLM_SERVER", _DEFAULT_PLACE))


needs_vllm_server = pytest.mark.skipif(
    not executable().exists(),
    reason=f"needs {executable()}: tests/servers/install_vllm.sh .servers/vllm, "
    "or SPECFUSE_VLLM_SERVER",
)


class VllmServer:
    """One server, which may be killed and started again at the same address."""

    def __init__(self, log: Path) -> None:
        """Starts nothing yet. What the server writes is kept in `log`."""
        self._log = log
        self._port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._port}"

    def start(self, model: Path, name: str) -> None:
        """Returns once it serves this model under this name."""
        served = ("--model", model, "--served-model-name", name, "--port", f"{self._port}")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [executable(), *served, *_FLAGS],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # it is several processes, which are killed together
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
        until = time.monotonic() + START_SECONDS
        while not self._serves():
            assert self._process.poll() is None, self._log.read_text(errors="replace")[-4000:]
            assert time.monotonic() < until, f"vLLM was not ready within {START_SECONDS} s"
            time.sleep(_LOOK_SECONDS)  # it says when it is ready in a log whose words may change

    def kill(self) -> None:
        """Ends it at once, with all of its processes."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    @property
    def runs(self) -> bool:
        """Whether it was started and not killed."""
        return self._process is not None

    def metric(self, name: str) -> float:
        """The value of a counter or gauge of the only model."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=60) as response:
            lines = response.read().decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(f"{name}{{"))

    def _serves(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as response:
                return bool(response.status == 200)
        except OSError:
            return False


@contextmanager
def vllm_server(directory: Path) -> Iterator[VllmServer]:
    """A server, not started, that is gone in the end. It may write to the directory."""
    server = VllmServer(directory / "vllm.log")
    try:
        yield server
    finally:
        server.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
