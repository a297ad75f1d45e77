"""What holds for all tests."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import settings

# Their assertions say what they compared, as those of tests do.
for shared in ("support", "robustness", "monitoring", "cluster"):
    pytest.register_assert_rewrite(f"tests.{shared}")

settings.register_profile("unhurried", deadline=None)  # machines may be slow, or busy
settings.load_profile("unhurried")

if "PYTEST_XDIST_WORKER" in os.environ:
    # A worker has about one core: torch's threads, here and in commands, would wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True, scope="session")
def ctrl_c_reaches_commands() -> None:
    """A shell has what it runs in the background ignore Ctrl-C, and every child inherits that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
