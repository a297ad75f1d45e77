"""The log on a descriptor that cannot be written, and on one that can be again."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext

from specfuse.observability.tracing.current import attached
from specfuse.serving.logs import JsonLines, TextLines, UnbufferedHandler


@pytest.fixture
def full() -> Iterator[int]:
    """A descriptor of a disk on which nothing is left."""
    descriptor = os.open("/dev/full", os.O_WRONLY)
    yield descriptor
    os.close(descriptor)


def record(message: str) -> logging.LogRecord:
    return logging.LogRecord("a", logging.INFO, __file__, 1, message, (), None)


def test_what_cannot_be_written_disturbs_nobody(full: int, capfd: pytest.CaptureFixture[str]):
    UnbufferedHandler(full).handle(record("hello"))
    assert capfd.readouterr() == ("", "")


def test_a_log_says_how_much_it_lacks_once_it_can(tmp_path: Path, full: int) -> None:
    handler = UnbufferedHandler(full)
    for number in range(3):
        handler.handle(record(f"lost {number}"))
    file = tmp_path / "log"
    with file.open("wb") as disk:
        os.dup2(disk.fileno(), full)
    for number in range(2):
        handler.handle(record(f"kept {number} \ud800"))
    assert file.read_text().splitlines() == [
        "3 records before this one could not be written here",
        "kept 0 \\ud800",
        "kept 1 \\ud800",
    ]


def test_a_record_that_makes_no_sense_is_its_authors_bug(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (tmp_path / "log").open("wb") as disk:
        wrong = logging.LogRecord("a", logging.INFO, __file__, 1, "%d", ("x",), None)
        UnbufferedHandler(disk.fileno()).handle(wrong)
    assert "Logging error" in capsys.readouterr().err


TRACED = trace.set_span_in_context(NonRecordingSpan(SpanContext(0xABC, 0xDEF, is_remote=False)))
TRACE_ID, SPAN_ID = f"{0xABC:032x}", f"{0xDEF:016x}"


def failure(message: str) -> logging.LogRecord:
    """A record of an exception."""
    error = ValueError("no")
    exception = (ValueError, error, None)
    return logging.LogRecord("a", logging.ERROR, __file__, 1, message, (), exception)


def test_a_line_of_text_has_its_trace_before_an_exception() -> None:
    assert TextLines().format(record("hello")).endswith(" INFO    a: hello")
    with attached(TRACED):
        first, *more = TextLines().format(failure("hello")).splitlines()
    assert first.endswith(f" ERROR   a: hello [trace {TRACE_ID}]")
    assert more[-1] == "ValueError: no"


def test_a_line_of_json_is_one_object_whatever_it_says() -> None:
    said = json.loads(JsonLines().format(record("hello")))
    assert {**said, "time": ""} == {"time": "", "level": "INFO", "logger": "a", "message": "hello"}
    with attached(TRACED):
        line = JsonLines().format(failure('"quoted"\n\ud800\u2028'))
    assert line.isascii()
    assert "\n" not in line
    said = json.loads(line)
    assert said["message"] == '"quoted"\n\\ud800\u2028', "half a character is spelt"
    assert said["exception"].endswith("ValueError: no")
    assert (said["trace_id"], said["span_id"]) == (TRACE_ID, SPAN_ID)


def test_a_log_of_json_says_in_json_what_it_lacks(tmp_path: Path, full: int) -> None:
    handler = UnbufferedHandler(full)
    handler.setFormatter(JsonLines())
    handler.handle(record("lost"))
    file = tmp_path / "log"
    with file.open("wb") as disk:
        os.dup2(disk.fileno(), full)
    handler.handle(record("kept"))
    messages = [json.loads(line)["message"] for line in file.read_text().splitlines()]
    assert messages == ["1 records before this one could not be written here", "kept"]
