"""Accounts as lines of JSON, whatever becomes of where they go."""

from __future__ import annotations

import errno
import json
import os
import threading
from pathlib import Path

import pytest

from fuser_service.tenancy import ledger as ledger_module
from fuser_service.tenancy.account import Account
from fuser_service.tenancy.ledger import Ledger, LineFile, open_ledger
from specfuse.errors import Misconfigured

ACCOUNT = Account(
    request_id="r", team="search", key="sf-id", ensemble="all", outcome="ok", seconds=0.1234567
)


def lines(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_what_is_booked_is_written_by_the_end(tmp_path: Path) -> None:
    file = tmp_path / "accounts.jsonl"
    for times in (3, 2):  # and what is there already stays
        with open_ledger(file, pytest.fail) as ledger:
            for _ in range(times):
                ledger.book(ACCOUNT)
    assert len(lines(file)) == 5
    assert lines(file)[0]["team"] == "search"
    assert lines(file)[0]["seconds"] == 0.123457


def test_without_a_file_it_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with open_ledger(None, pytest.fail) as ledger:
        ledger.book(ACCOUNT)
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err)["request_id"] == "r"


def test_a_file_that_cannot_be_written_is_a_mistake(tmp_path: Path) -> None:
    with (
        pytest.raises(Misconfigured, match=r"tenancy.accounting.file: .*No such file"),
        open_ledger(tmp_path / "missing" / "accounts.jsonl", pytest.fail),
    ):
        pass


def test_a_file_that_is_renamed_or_removed_is_begun_anew(tmp_path: Path) -> None:
    file = LineFile(tmp_path / "a")
    file.write(b"1\n")
    (tmp_path / "a").rename(tmp_path / "a.1")
    file.write(b"2\n")
    (tmp_path / "a").unlink()
    file.write(b"3\n")
    file.close()
    assert (tmp_path / "a.1").read_bytes() == b"1\n"
    assert (tmp_path / "a").read_bytes() == b"3\n"


def test_after_half_a_line_the_next_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, write = LineFile(tmp_path / "a"), os.write
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda where, line: write(where, line[:2]))
        with pytest.raises(OSError, match="No space left") as error:
            file.write(b"12345\n")
    assert error.value.errno == errno.ENOSPC
    file.write(b"6\n")
    file.write(b"7\n")
    file.close()
    assert (tmp_path / "a").read_bytes() == b"12\n6\n7\n"


def test_lines_that_cannot_be_written_are_counted_and_the_next_are_tried(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, lost = tmp_path / "folder", []
    folder.mkdir()
    with open_ledger(folder / "accounts", lambda: lost.append(1)) as ledger:
        (folder / "accounts").unlink()
        folder.rmdir()
        ledger.book(ACCOUNT)
        ledger.book(ACCOUNT)
        ledger.close()
    assert len(lost) == 2
    assert caplog.text.count("lines are lost") == 1


def test_nobody_waits_for_a_disk_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "_MOST_WAITING", 2)
    hanging, go = threading.Event(), threading.Event()

    class Hanging:
        def write(self, line: bytes) -> None:
            hanging.set()
            go.wait()

    lost: list[int] = []
    ledger = Ledger(Hanging(), lambda: lost.append(1))
    ledger.book(ACCOUNT)
    assert hanging.wait(10)
    for _ in range(5):
        ledger.book(ACCOUNT)
    assert len(lost) == 3
    go.set()
    ledger.close()
