"""The clock that can be set: a process that goes by it sees it jump, and its monotonic one not."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.robustness import clock

_TELLS = "import time\nwhile input(): print(time.time(), time.monotonic(), flush=True)"


@pytest.mark.skipif(clock.COMPILER is None, reason="needs a C compiler: cc")
@pytest.mark.parametrize("seconds", [3600, -3600])
def test_a_clock_jumps_there_and_back(tmp_path: Path, seconds: int) -> None:
    jumping = clock.Clock("a", tmp_path)
    with subprocess.Popen(
        [*jumping.prefix, sys.executable, "-c", _TELLS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def told() -> tuple[float, float]:
            """How far its wall clock and its monotonic one are ahead of ours."""
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("?\n")
            process.stdin.flush()
            wall, monotonic = map(float, process.stdout.readline().split())
            return wall - time.time(), monotonic - time.monotonic()

        for ahead in (0, seconds, 0):
            jumping.set_ahead(ahead)
            wall, monotonic = told()
            assert wall == pytest.approx(ahead, abs=60)
            assert monotonic == pytest.approx(0, abs=60)
        process.kill()
