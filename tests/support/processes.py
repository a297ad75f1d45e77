"""Waiting for processes that need not be children of this one, by event and not by polling."""

from __future__ import annotations

import os
import select


def wait_until_gone(pid: int, timeout_seconds: float = 10.0) -> None:
    """Returns once the process has ended; fails the test if it has not by then."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ended, _, _ = select.select([descriptor], [], [], timeout_seconds)
    finally:
        os.close(descriptor)
    assert ended, f"process {pid} is still there after {timeout_seconds} s"


def is_running(pid: int) -> bool:
    """Whether the process exists and has not ended."""
    try:
        wait_until_gone(pid, 0.0)
    except AssertionError:
        return True
    return False
