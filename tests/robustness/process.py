"""What a process holds, as the kernel counts it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from tests.robustness.nodes import PATIENCE_SECONDS

_SLACK = 8
"""gRPC's pool has a few threads more or less from one time to the next. What leaks, grows."""


@dataclass(frozen=True, slots=True)
class Held:
    """Threads, open file descriptors and bytes of memory of a process."""

    threads: int
    descriptors: int
    memory_bytes: int

    @classmethod
    def by(cls, pid: int) -> Held:
        """What this process holds now."""
        at = Path(f"/proc/{pid}")
        status = (line.split() for line in (at / "status").read_text().splitlines())
        kib = next(int(words[1]) for words in status if words[0] == "VmRSS:")
        tasks, descriptors = list((at / "task").iterdir()), list((at / "fd").iterdir())
        return cls(len(tasks), len(descriptors), kib * 1024)


async def lets_go(pid: int, idle: Held) -> Held:
    """What the process holds once it has about as many threads and descriptors as idle."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not _at_most(held := Held.by(pid), idle):  # noqa: ASYNC110 (another process)
            await asyncio.sleep(0.1)
    return held


def _at_most(held: Held, idle: Held) -> bool:
    threads, descriptors = held.threads - idle.threads, held.descriptors - idle.descriptors
    return max(threads, descriptors) <= _SLACK
