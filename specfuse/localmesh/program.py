"""What a mesh can be told to run."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

RUN_MODULE = (sys.executable, "-P", "-m")
"""How a command line begins that runs a module of Python. -P: what lies in the directory where it
runs must not shadow modules of the same name."""


@dataclass(frozen=True, slots=True)
class Program:
    """Something to run: its name in the mesh, its command line, and where to run it.

    `imports` are modules that a program of `RUN_MODULE` needs and that take long to import.
    Programs with the same ones may be forked from a process that has them, and share its memory.
    """

    name: str
    argv: tuple[str, ...]
    directory: Path
    imports: tuple[str, ...] = ()
