"""Becomes another program that dies when its launcher does: `python -m specfuse.localmesh.tied`.

The arguments are the launcher's process id and the program's command line. What the kernel was told
survives the change of program, so any program can be tied; but not what that starts in turn.
"""

from __future__ import annotations

import os
import sys

from specfuse.localmesh.handshake import die_with

NOT_FOUND = 127
NOT_RUNNABLE = 126
"""The exit codes that shells have for commands that they cannot run."""


def main() -> int:
    """Does not return, unless the program cannot be run."""
    launcher, *argv = sys.argv[1:]
    die_with(int(launcher))
    try:
        os.execvp(argv[0], argv)  # noqa: S606 (no shell, on purpose)
    except OSError as error:
        sys.stderr.write(f"{argv[0]}: {error.strerror}\n")
        return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_RUNNABLE


if __name__ == "__main__":
    sys.exit(main())
