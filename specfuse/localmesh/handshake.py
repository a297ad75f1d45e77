"""What a launcher and the services it starts agree on: two options and one line.

- `--die-with PID`: the service dies when that launcher does, however the launcher ends.
- `--ready-fd FD`: once it serves, the service writes one line to this file descriptor, its
  addresses, and closes it. So ports may be any free ones, and nothing has to guess or poll.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from dataclasses import asdict, dataclass

READY_FD_OPTION = "--ready-fd"
DIE_WITH_OPTION = "--die-with"

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class ServiceAddresses:
    """Where a service listens, `host:port` each: its gRPC services and its Prometheus metrics.

    `http_address` is that of its OpenAI-compatible API; empty if it has none.
    """

    address: str
    metrics_address: str
    http_address: str = ""

    def to_line(self) -> bytes:
        """These addresses as the one line a service writes."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> ServiceAddresses:
        """The addresses in the line that a service wrote."""
        fields = json.loads(line)
        return cls(**{name: fields[name] for name in cls.__dataclass_fields__})


def handshake_options(ready_fd: int, launcher: int) -> tuple[str, ...]:
    """The two options, as the launcher gives them to a service."""
    return (READY_FD_OPTION, str(ready_fd), DIE_WITH_OPTION, str(launcher))


def announce(addresses: ServiceAddresses, file_descriptor: int) -> None:
    """Tells the launcher that the service serves, and where.

    Raises:
        OSError: the descriptor is not open for writing.
    """
    with os.fdopen(file_descriptor, "wb") as pipe:
        pipe.write(addresses.to_line())


def die_with(parent: int) -> None:
    """Has the kernel kill this process when the process `parent`, which started it, ends.

    The kernel does it even if this process hangs or is stopped, and even if the launcher was killed
    before it could do anything. Linux only; elsewhere only a launcher that ends normally takes
    its services with it.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:  # it ended before the kernel was told
        os.kill(os.getpid(), signal.SIGKILL)
