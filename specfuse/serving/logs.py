"""The log of a service, on stderr: a disk that is full there must not disturb what is logged."""

from __future__ import annotations

import logging
import os
from typing import Final

STDERR: Final = 2

_OF_GRPC: Final = "grpc._cython.cygrpc"
_GARBLED: Final = "Invalid encoding on"
"""What gRPC's Python says, with a traceback, of words of its own library that are no UTF-8. Where
descriptors run out, that is every failure to connect."""

_OF_HTTP: Final = "httpx2"
"""It has a line for every request that it makes."""

_FORMAT: Final = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def log_to_stderr() -> None:
    """From now on everything from INFO up is logged to stderr."""
    handler = UnbufferedHandler(STDERR)
    handler.setFormatter(logging.Formatter(_FORMAT))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger(_OF_GRPC).addFilter(_is_not_garbled)
    logging.getLogger(_OF_HTTP).setLevel(logging.WARNING)


def _is_not_garbled(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(_GARBLED)


class UnbufferedHandler(logging.Handler):
    """Writes each record to a file descriptor at once, or not at all.

    Records that cannot be written, as the disk is full or nobody reads the pipe any more, are
    dropped and counted; the next one that can be is preceded by their number.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Writes or drops the record. Raises nothing."""
        try:
            text = self._news_of_dropped() + self.format(record) + "\n"
            os.write(self._descriptor, text.encode(errors="backslashreplace"))
        except OSError:
            self._dropped += 1
        except Exception:  # noqa: BLE001 (a record that cannot be formatted is a bug of its author)
            self.handleError(record)
        else:
            self._dropped = 0

    def _news_of_dropped(self) -> str:
        if not self._dropped:
            return ""
        return f"{self._dropped} records before this one could not be written here\n"
