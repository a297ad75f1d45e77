"""What the robustness tests share: the numbers they measure, and where these are written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.robustness.measured import Measured, write_report


@pytest.fixture(scope="session")
def measured() -> Iterator[list[Measured]]:
    """Takes the numbers of every run; a report is written if the environment says where."""
    rows: list[Measured] = []
    yield rows
    if directory := os.environ.get("ROBUSTNESS_REPORT"):
        write_report(rows, Path(directory))
