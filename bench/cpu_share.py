"""Holds processes to a share of the processors, as the limit of a container does.

So several of something can be measured on a machine that has processors for one of them. It takes
the kernel's control groups, and the right to make one: root, mostly.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_GROUPS: Final = Path("/sys/fs/cgroup")
_PERIOD: Final = 20_000
"""Microseconds in which a group may have its share. Short, so that who has had it waits little."""
_LEAST: Final = 1_000
"""Microseconds; the kernel takes no smaller share of a period."""


def quota(cpus: float) -> int:
    """Microseconds of each period.

    Raises:
        ValueError: the kernel takes no share that is so small.
    """
    microseconds = round(cpus * _PERIOD)
    if microseconds < _LEAST:
        raise ValueError(f"{cpus:g} processors are less than {_LEAST / _PERIOD:g}, the least")
    return microseconds


@contextmanager
def limited(processes: Sequence[int], cpus: float) -> Iterator[bool]:
    """Each of the processes has at most so many processors meanwhile. Whether it could be done."""
    made: list[Path] = []
    try:
        held = _hold(processes, quota(cpus), made)
        yield held
    finally:
        for group in made:
            _release(group)


def _hold(processes: Sequence[int], microseconds: int, made: list[Path]) -> bool:
    parent = next(
        (each for each in (_GROUPS / "cpu", _GROUPS) if (each / "cgroup.procs").exists()), None
    )
    if parent is None:
        return False
    try:
        for pid in processes:
            group = parent / f"specfuse-bench-{os.getpid()}-{pid}"
            group.mkdir()
            made.append(group)
            _set(group, microseconds)
            (group / "cgroup.procs").write_text(str(pid))
    except OSError:
        while made:
            _release(made.pop())
        return False
    return True


def _set(group: Path, microseconds: int) -> None:
    """In the words of whichever version of control groups there is."""
    if (group / "cpu.cfs_quota_us").exists():
        (group / "cpu.cfs_period_us").write_text(str(_PERIOD))
        (group / "cpu.cfs_quota_us").write_text(str(microseconds))
    else:
        (group / "cpu.max").write_text(f"{microseconds} {_PERIOD}")


def _release(group: Path) -> None:
    """Lets the processes go; what cannot be removed is empty and harms nobody."""
    with suppress(OSError):
        for pid in (group / "cgroup.procs").read_text().split():
            (group.parent / "cgroup.procs").write_text(pid)
    with suppress(OSError):
        group.rmdir()
