"""The ledger: a line of JSON for each request, to bill by.

    {"time": "2026-11-30T08:00:00.000+00:00", "request_id": "…", "team": "search", …}

Nothing that goes wrong with it fails a request: lines are written in a thread of their own, and
those that cannot be are counted.
"""

from __future__ import annotations

import json
import logging
import queue
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener, WatchedFileHandler
from pathlib import Path
from typing import Final, TextIO

from fuser_service.tenancy.account import Account
from specfuse.errors import Misconfigured

_MOST_WAITING: Final = 10_000
"""Lines that wait to be written. Further ones are lost."""

_logger = logging.getLogger(__name__)


class Ledger:
    """Writes accounts to a handler."""

    def __init__(self, handler: logging.Handler) -> None:
        self._handler = handler

    def book(self, account: Account) -> None:
        """Writes the account down, soon."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = {"time": now, **asdict(account), "seconds": round(account.seconds, 6)}
        record = logging.LogRecord(
            __name__, logging.INFO, "", 0, json.dumps(line, ensure_ascii=False), None, None
        )
        self._handler.handle(record)


@contextmanager
def open_ledger(file: Path | None, lost: Callable[[], None]) -> Iterator[Ledger]:
    """A ledger in `file`, or on stderr, until the context is left; `lost` is told of every line.

    A file that is renamed or removed, as logrotate does, is begun anew.

    Raises:
        Misconfigured: the file cannot be written to.
    """
    writer: _File | _Stderr
    try:
        writer = _Stderr(lost) if file is None else _File(file, lost)
    except OSError as error:
        problem = f"tenancy.accounting.file: cannot be written: {error}"
        raise Misconfigured(problem) from error
    waiting: queue.Queue[logging.LogRecord] = queue.Queue(_MOST_WAITING)
    listener = QueueListener(waiting, writer)
    listener.start()
    try:
        yield Ledger(_Waiting(waiting, lost))
    finally:
        listener.stop()
        writer.close()


class _Waiting(QueueHandler):
    """Puts lines where the thread finds them."""

    def __init__(self, waiting: queue.Queue[logging.LogRecord], lost: Callable[[], None]) -> None:
        super().__init__(waiting)
        self._lost = lost

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """The queue is full."""
        del record
        self._lost()


class _File(WatchedFileHandler):
    """Appends lines to a file, whichever has its name."""

    def __init__(self, file: Path, lost: Callable[[], None]) -> None:
        super().__init__(file, encoding="utf-8")
        self._lost = lost
        self._complained = False

    def emit(self, record: logging.LogRecord) -> None:
        """Writes the line. The base lets errors of opening the file anew through."""
        try:
            super().emit(record)
        except OSError:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """The disk is full, or the file's folder is gone."""
        del record
        self._lost()
        if not self._complained:
            self._complained = True
            _logger.error("accounting: lines are lost; %s cannot be written", self.baseFilename)


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes lines to stderr."""

    def __init__(self, lost: Callable[[], None]) -> None:
        super().__init__()
        self._lost = lost

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """Nobody reads it."""
        del record
        self._lost()
