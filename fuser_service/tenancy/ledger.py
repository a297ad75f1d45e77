"""The ledger: a line of JSON for each request, to bill by.

    {"time": "2026-11-30T08:00:00.000+00:00", "request_id": "…", "team": "search", …}

Nothing that goes wrong with it fails a request or makes it wait: lines are written by a thread of
their own, and those that cannot be are counted.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from queue import Full, Queue
from threading import Thread
from typing import Final, Protocol

from fuser_service.tenancy.account import Account
from specfuse.errors import Misconfigured

_MOST_WAITING: Final = 10_000
"""Lines that wait to be written. Further ones are lost."""

_END_SECONDS: Final = 5.0
"""How long the lines that are left may take at the end."""

_MODE: Final = 0o640

_logger = logging.getLogger(__name__)


class Sink(Protocol):
    """Where lines go."""

    def write(self, line: bytes) -> None:
        """Writes a line with its newline.

        Raises:
            OSError: it cannot be.
        """


class Ledger:
    """Has accounts written, in a thread of its own; `lost` is told of every line that is not."""

    def __init__(self, sink: Sink, lost: Callable[[], None]) -> None:
        self._sink = sink
        self._lost = lost
        self._waiting: Queue[bytes | None] = Queue(_MOST_WAITING)
        self._failing = False
        self._thread = Thread(target=self._write, name="ledger", daemon=True)
        self._thread.start()

    def book(self, account: Account) -> None:
        """Has the account written down."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = {"time": now, **asdict(account), "seconds": round(account.seconds, 6)}
        try:
            self._waiting.put_nowait(f"{json.dumps(line)}\n".encode())
        except Full:
            self._lost()

    def close(self) -> None:
        """Ends when what waits is written, or after a few seconds."""
        with suppress(Full):
            self._waiting.put(None, timeout=_END_SECONDS)
        self._thread.join(_END_SECONDS)

    def _write(self) -> None:
        while (line := self._waiting.get()) is not None:
            try:
                self._sink.write(line)
                self._failing = False
            except (OSError, ValueError) as error:  # ValueError: of a stream that was closed
                self._lost()
                if not self._failing:
                    self._failing = True
                    _logger.error("accounting: lines are lost: %s", error)  # noqa: TRY400


class LineFile:
    """Appends lines to the file of this name, whichever that is: logrotate renames it.

    Each line is one write, so that several processes may share the file.
    """

    def __init__(self, path: Path) -> None:
        """Opens the file.

        Raises:
            OSError: it cannot be.
        """
        self._path = path
        self._torn = False
        self._file = self._open()

    def write(self, line: bytes) -> None:
        """As `Sink` says. After a line of which only a part got written, the next begins anew."""
        self._follow()
        whole = b"\n" + line if self._torn else line
        written = os.write(self._file, whole)
        if written < len(whole):
            self._torn = True
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
        self._torn = False

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, _MODE)

    def _follow(self) -> None:
        """Opens the file that has the name now, if it is another."""
        ours = os.fstat(self._file)
        with suppress(FileNotFoundError):
            there = self._path.stat()
            if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
                return
        other = self._open()
        os.close(self._file)
        self._file, self._torn = other, False


class StandardError:
    """Writes lines to stderr."""

    def write(self, line: bytes) -> None:
        """As `Sink` says."""
        sys.stderr.write(line.decode())
        sys.stderr.flush()


@contextmanager
def open_ledger(file: Path | None, lost: Callable[[], None]) -> Iterator[Ledger]:
    """A ledger in `file`, or on stderr, until the context is left; `lost` as for `Ledger`.

    Raises:
        Misconfigured: the file cannot be written to.
    """
    if file is None:
        ledger = Ledger(StandardError(), lost)
        try:
            yield ledger
        finally:
            ledger.close()
        return
    try:
        lines = LineFile(file)
    except OSError as error:
        problem = f"tenancy.accounting.file: {file} cannot be written: {error.strerror}"
        raise Misconfigured(problem) from error
    ledger = Ledger(lines, lost)
    try:
        yield ledger
    finally:
        ledger.close()
        lines.close()
