"""What the robustness tests share: the numbers they measure, and where these are written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.robustness.measured import Report


@pytest.fixture(scope="session")
def report() -> Iterator[Report]:
    """Takes what is measured; it is written at the end if the environment says where."""
    report = Report()
    yield report
    if directory := os.environ.get("ROBUSTNESS_REPORT"):
        report.write(Path(directory))
