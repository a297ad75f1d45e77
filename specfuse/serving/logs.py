"""The log of a service, on stderr: a disk that is full there must not disturb what is logged.

A line that is logged while a request is traced has the id of its trace.
"""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime
from typing import Final

from specfuse.config.types import LogFormat
from specfuse.observability.tracing.current import span_id, trace_id

STDERR: Final = 2

_OF_GRPC: Final = "grpc._cython.cygrpc"
_GARBLED: Final = "Invalid encoding on"
"""What gRPC's Python says, with a traceback, of words of its own library that are no UTF-8. Where
descriptors run out, that is every failure to connect."""

_OF_HTTP: Final = "httpx2"
"""It has a line for every request that it makes."""

_OF_SPANS: Final = "opentelemetry.sdk._shared_internal"
"""It has a line again and again while spans are lost, which our exporter says once."""

_TEXT: Final = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def log_to_stderr(log_format: LogFormat = "text") -> None:
    """From now on everything from INFO up is logged to stderr."""
    handler = UnbufferedHandler(STDERR)
    handler.setFormatter(JsonLines() if log_format == "json" else TextLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger(_OF_GRPC).addFilter(_is_not_garbled)
    logging.getLogger(_OF_HTTP).setLevel(logging.WARNING)
    logging.getLogger(_OF_SPANS).setLevel(logging.ERROR)


def _is_not_garbled(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(_GARBLED)


class TextLines(logging.Formatter):
    """A record as people read it; what it has of an exception is on further lines."""

    def __init__(self) -> None:
        super().__init__(_TEXT)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (its base's name)
        """The record's own line."""
        line = super().formatMessage(record)
        trace = trace_id()
        return f"{line} [trace {trace}]" if trace else line


class JsonLines(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, with what is known of `time`, `level`, `logger`, `message`, `exception`,
        `trace_id` and `span_id`.
        """
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "exception": self.formatException(record.exc_info) if record.exc_info else "",
            "trace_id": trace_id(),
            "span_id": span_id(),
        }
        return json.dumps({key: _whole(value) for key, value in said.items() if value})


def _whole(text: str) -> str:
    """Half characters, as names of files may have, are spelt: strict readers refuse such a line."""
    return text.encode(errors="backslashreplace").decode()


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
        said = "%d records before this one could not be written here"
        news = logging.LogRecord(
            __name__, logging.WARNING, __file__, 0, said, (self._dropped,), None
        )
        return self.format(news) + "\n"
