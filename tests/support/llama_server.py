"""A real llama-server, in a process and on a port of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any, Final, TextIO

import pytest

from tests.support.repository import REPOSITORY

PATIENCE_SECONDS: Final = 60
_DEFAULT_PLACE = REPOSITORY / ".servers" / "llama" / "bin" / "llama-server"
_LISTENING = re.compile(r"listening on (http://\S+)")
EXACT = ("--cache-type-k", "f32", "--cache-type-v", "f32", "--flash-attn", "off")
"""By default attention computes in half precision, which moves log-probabilities by hundredths."""


def executable() -> Path:
    """What `SPECFUSE_LLAMA_SERVER` says, else where `make servers` puts it."""
    return Path(os.environ.get("SPECFUSE_LLAMA_SERVER", _DEFAULT_PLACE))


needs_llama_server = pytest.mark.skipif(
    not executable().exists(), reason=f"needs {executable()}: make servers"
)


@contextmanager
def llama_server(model: Path, *flags: str) -> Iterator[str]:
    """The address of a server of this GGUF file, from when it answers until it is gone."""
    process = subprocess.Popen(
        # One thread, as threads that wait for each other spin, and starve on a busy machine.
        [executable(), "--model", model, "--port", "0", "--threads", "1", *EXACT, *flags],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    address: Future[str] = Future()
    reader = Thread(target=_read, args=(process.stderr, address))
    with process:
        reader.start()
        try:
            yield address.result(PATIENCE_SECONDS)
        finally:
            process.kill()
            reader.join()


def post(address: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """What the server answers."""
    request = urllib.request.Request(
        f"{address}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as response:
        answer: dict[str, Any] = json.load(response)
        return answer


def _read(log: TextIO, address: Future[str]) -> None:
    """Reads to the end, or the server would wait. It says where it listens once it is ready."""
    written = []
    for line in log:
        written.append(line)
        found = _LISTENING.search(line)
        if found and not address.done():
            address.set_result(found[1])
    if not address.done():
        address.set_exception(AssertionError(f"llama-server never listened: {''.join(written)}"))
