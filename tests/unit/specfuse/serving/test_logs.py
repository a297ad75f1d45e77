"""The log on a descriptor that cannot be written, and on one that can be again."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from specfuse.serving.logs import UnbufferedHandler


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
