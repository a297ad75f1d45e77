"""Shares of processors."""

from __future__ import annotations

import os

import pytest

from bench.cpu_share import limited, quota


def test_a_share_is_time_of_each_period() -> None:
    assert quota(1.0) == 20_000
    assert quota(0.25) == 5_000
    assert quota(0.05) == 1_000


@pytest.mark.parametrize("cpus", [0.04, 0.0, -1.0])
def test_too_little_is_refused(cpus: float) -> None:
    with pytest.raises(ValueError, match="the least"):
        quota(cpus)


def test_nothing_is_held_that_is_not_there() -> None:
    with limited([2**22 + os.getpid()], 0.5) as held:  # more than any process id
        assert not held
