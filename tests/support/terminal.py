"""A command that has a terminal: what it shows there, and keys pressed."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.command import COMMAND, PATIENCE_SECONDS

CTRL_C = b"\x03"
_ROWS, _COLUMNS = 50, 130


class Terminal:
    """A running command's terminal."""

    def __init__(self, descriptor: int, process: subprocess.Popen[bytes]) -> None:
        self._descriptor = descriptor
        self._process = process
        self.shown = ""

    def until(self, text: str) -> None:
        """Waits until it shows the text, from now on."""
        before = len(self.shown)
        ends = time.monotonic() + PATIENCE_SECONDS
        while text not in self.shown[before:]:
            came, _, _ = select.select([self._descriptor], [], [], ends - time.monotonic())
            piece = self._read() if came else ""
            assert piece, f"{text!r} never came: {self.shown}"
            self.shown += piece

    def press(self, key: bytes) -> int:
        """Presses a key that ends the command. Returns the exit code."""
        os.write(self._descriptor, key)
        return self.wait()

    def wait(self) -> int:
        """Waits until the command ends. Returns the exit code."""
        while piece := self._read():
            self.shown += piece
        return self._process.wait(PATIENCE_SECONDS)

    def _read(self) -> str:
        """What comes next; nothing at the end."""
        try:
            return os.read(self._descriptor, 65_536).decode(errors="replace")
        except OSError:  # so Linux says that nobody has the other end any more
            return ""


@contextmanager
def terminal(*arguments: str, **environment: str) -> Iterator[Terminal]:
    """Runs a command of ours with a terminal. Ended at the end if it is still there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, _COLUMNS, 0, 0))
    process = subprocess.Popen(
        # A session of its own, whose terminal this is: Ctrl-C is a signal to it.
        ["setsid", "--ctty", "--wait", *COMMAND, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm-256color"} | environment,
    )
    os.close(theirs)
    with process:
        try:
            yield Terminal(ours, process)
        finally:
            process.kill()
            os.close(ours)
