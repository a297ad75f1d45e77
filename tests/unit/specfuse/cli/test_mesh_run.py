"""Where a mesh's logs go, and when they are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from specfuse.cli.mesh_run import logs_in
from specfuse.errors import DeadlineExceeded, Misconfigured, SpecFuseError
from specfuse.localmesh import Died, Launched, Stopped

LOG = Path("alpha.log")


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def test_logs_that_nobody_wants_are_removed() -> None:
    with logs_in(None) as logs:
        listen = logs.watching(lambda _event: None)
        listen(Launched("alpha", "server", LOG))
        listen(Stopped("alpha", drained=True))
    assert not logs.directory.exists()


def test_logs_of_what_died_are_kept() -> None:
    with logs_in(None) as logs:
        logs.watching(lambda _event: None)(Died("alpha", "exit code 1", (), LOG))
    assert logs.directory.exists()


@pytest.mark.parametrize(
    ("error", "kept"), [(DeadlineExceeded("not ready"), True), (Misconfigured("wrong"), False)]
)
def test_logs_are_kept_that_an_error_refers_to(error: SpecFuseError, kept: bool) -> None:
    with pytest.raises(type(error)), logs_in(None) as logs:
        raise error
    assert logs.directory.exists() is kept


def test_chosen_logs_are_kept(tmp_path: Path) -> None:
    with logs_in(tmp_path / "a" / "b") as logs:
        assert logs.directory == tmp_path / "a" / "b"
    assert logs.directory.is_dir()
