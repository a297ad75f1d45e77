"""The command that prints the rules."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import yaml

from tests.support.repository import REPOSITORY


def printed(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy.monitoring.alerts", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=REPOSITORY,
    )


def test_thresholds_come_from_files(tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text("thresholds: {roundSeconds: 0.125}\n")
    said = printed("--values", str(tmp_path / "values.yaml"))
    assert said.returncode == 0, said.stderr
    assert "> 0.125" in yaml.safe_dump(yaml.safe_load(said.stdout), width=1000)


def test_what_is_wrong_is_said_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text("treshold: 1\n")
    said = printed("--values", str(tmp_path / "values.yaml"))
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr.startswith("monitoring.rules: there is no treshold; there are: enabled")
    assert printed("--values", str(tmp_path / "nothing.yaml")).returncode == 1
