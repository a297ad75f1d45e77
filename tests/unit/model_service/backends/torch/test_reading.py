"""Files of weights are read ahead, and the log says how far that is."""

from __future__ import annotations

import logging
from pathlib import Path
from threading import Event

import pytest

from model_service.backends.torch import reading
from model_service.backends.torch.reading import progress, reading_ahead


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two files, of 3 and 2 megabytes."""
    paths = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for path, size in zip(paths, (3_000_000, 2_000_000), strict=True):
        path.write_bytes(bytes(size))
    return paths


class Heard(logging.Handler):
    """Keeps what is logged, and tells when so many lines were."""

    def __init__(self, lines: int) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.all = Event()
        self._count = lines

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        if len(self.lines) == self._count:
            self.all.set()


def test_the_log_says_how_much_was_read(
    files: list[Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reading, "_PIECE_BYTES", 1_000_000)
    caplog.set_level(logging.INFO)
    heard = Heard(5)
    reading.logger.addHandler(heard)
    try:
        with reading_ahead(files, every_seconds=0.0):
            assert heard.all.wait(60)
    finally:
        reading.logger.removeHandler(heard)
    read = [line.partition(",")[0].removeprefix("reading weights: ") for line in heard.lines]
    assert read == [f"{count} of 5 MB" for count in range(1, 6)]


def test_what_takes_no_time_is_not_told(
    files: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with reading_ahead(files, every_seconds=3600.0):
        pass
    assert not caplog.messages


def test_more_than_memory_holds_is_not_read(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_memory", lambda: 9_000_000)
    monkeypatch.setattr(reading, "Thread", None)
    with reading_ahead(files):
        pass


def test_what_cannot_be_read_is_for_who_maps_it_to_complain_about(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    file.mkdir()
    with reading_ahead([file]):
        pass


def test_the_rest_takes_as_long_in_proportion() -> None:
    assert progress(1_500_000_000, 2_000_000_000, 6.0) == "1,500 of 2,000 MB, 2 s left"
