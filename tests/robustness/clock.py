"""A wall clock that can be set while a process goes by it, by a library loaded before libc.

The monotonic clock stays as it is, as it does when a machine's clock is set. Waits until a time of
the wall clock do not: the kernel's own is left alone, as other processes go by it.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

COMPILER = shutil.which("cc")
"""What compiles the library; None where there is no C compiler, and so no such clock."""

_SOURCE = Path(__file__).with_name("wall_clock.c")


class Clock:
    """The wall clock of a process that is started with `prefix` before its command line."""

    def __init__(self, name: str, directory: Path) -> None:
        """A clock that is right until it is set; it keeps its files in the directory."""
        assert COMPILER is not None
        self._library = directory / f"{name}.clock.so"
        subprocess.run([COMPILER, "-shared", "-fPIC", "-o", self._library, _SOURCE], check=True)
        self._file = directory / f"{name}.clock"
        self._file.write_bytes(bytes(8))

    @property
    def prefix(self) -> tuple[str, ...]:
        """What starts a command with this clock."""
        return ("env", f"LD_PRELOAD={self._library}", f"WALL_CLOCK={self._file}")

    def set_ahead(self, seconds: int) -> None:
        """Sets it so far ahead of the right time, or behind it. Takes effect at once."""
        with self._file.open("r+b") as mapped:
            mapped.write(struct.pack("q", seconds))
