"""A fuser that counts nothing: `python bench/silent_fuser.py SETTINGS READY_FD`.

What numbers cost is measured beside it: `bench/observing.py`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import fuser_service.main
from fuser_service.metrics import FuserMetrics
from specfuse.cli.serve import Supervision, serve_fuser

_KEPT: Final = ("expect", "standing", "watch_revisions", "watch_waiting")
"""What does not come with requests, and stays."""


def nothing(*_args: object, **_more: object) -> None:
    """Tells nobody anything."""


def main() -> None:
    """Serve until SIGTERM."""
    told = [name for name in vars(FuserMetrics) if not name.startswith("_") and name not in _KEPT]
    silent = type("SilentMetrics", (FuserMetrics,), dict.fromkeys(told, nothing))
    fuser_service.main.FuserMetrics = silent  # type: ignore[misc]
    settings, ready_fd = sys.argv[1:]
    serve_fuser(Path(settings), {}, Supervision(ready_fd=int(ready_fd), die_with=None))


if __name__ == "__main__":
    main()
