"""Reads files of weights ahead of who maps them, and tells in the log how far that is.

A model's weights are mapped, so the disk is read piece by piece as they are used. Read from end to
end before, they come at the disk's full speed, while other things are loaded.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Final

logger = logging.getLogger(__name__)

_PIECE_BYTES: Final = 16 << 20
_EVERY_SECONDS: Final = 5.0
_MEGABYTE: Final = 1_000_000


@contextmanager
def reading_ahead(files: Sequence[Path], every_seconds: float = _EVERY_SECONDS) -> Iterator[None]:
    """Reads the files on a thread of its own until the context is left.

    The log says how far that is, if it takes longer than `every_seconds`. More than half of the
    machine's memory is not read: the first would be gone before the last came.
    """
    total = sum(file.stat().st_size for file in files)
    if total > _memory() // 2:
        yield
        return
    left = Event()
    thread = Thread(target=_read, args=(files, total, left, every_seconds), daemon=True)
    thread.start()
    try:
        yield
    finally:
        left.set()
        thread.join()


def _read(files: Sequence[Path], total: int, left: Event, every_seconds: float) -> None:
    began = told = time.monotonic()
    done = 0
    for count in _pieces(files):
        done += count
        now = time.monotonic()
        if now - told >= every_seconds:
            logger.info("reading weights: %s", progress(done, total, now - began))
            told = now
        if left.is_set():
            return


def _pieces(files: Sequence[Path]) -> Iterator[int]:
    """Reads the files, and yields how many bytes were read each time.

    What cannot be read is for who maps it to complain about.
    """
    piece = bytearray(_PIECE_BYTES)
    for path in files:
        with suppress(OSError), path.open("rb", buffering=0) as file:
            while count := file.readinto(piece):
                yield count


def progress(done: int, total: int, seconds: float) -> str:
    """How much of `total` bytes was read in so many seconds, and how many the rest takes then."""
    rest = seconds * (total - done) / done
    return f"{done // _MEGABYTE:,} of {total // _MEGABYTE:,} MB, {rest:.0f} s left"


def _memory() -> int:
    """The machine's, in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
