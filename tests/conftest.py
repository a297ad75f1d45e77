"""What holds for all tests."""

from __future__ import annotations

import signal

import pytest


@pytest.fixture(autouse=True, scope="session")
def ctrl_c_reaches_commands() -> None:
    """A shell has what it runs in the background ignore Ctrl-C, and every child inherits that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
