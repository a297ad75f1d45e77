"""A copy of the source to change, and the tools that judge it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.support.repository import REPOSITORY

_COPIED: Final = ("specfuse", "model_service", "fuser_service", "tests/architecture")
_SECONDS: Final = 120


class ScratchCopy:
    """The packages and the rules of who may import whom, in a directory of their own."""

    def __init__(self, directory: Path) -> None:
        for name in _COPIED:
            ignored = shutil.ignore_patterns("__pycache__", "models")
            shutil.copytree(REPOSITORY / name, directory / name, ignore=ignored)
        shutil.copy(REPOSITORY / "pyproject.toml", directory)
        self._directory = directory

    def append(self, file: str, code: str) -> None:
        """Adds code at the end of a file, which may be new."""
        path = self._directory / file
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as out:
            out.write(f"\n{code}\n")

    def replace(self, file: str, old: str, new: str) -> None:
        """Replaces what comes once in a file."""
        path = self._directory / file
        text = path.read_text()
        assert text.count(old) == 1, f"{file} has {old!r} {text.count(old)} times"
        path.write_text(text.replace(old, new))

    def lint_imports(self) -> subprocess.CompletedProcess[str]:
        """What `lint-imports` says of the copy."""
        program = Path(sys.executable).with_name("lint-imports")
        return self._run(str(program), "--no-cache")

    def mypy(self, *paths: str) -> subprocess.CompletedProcess[str]:
        """What the type checker says of these files and folders of the copy."""
        return self._run(sys.executable, "-m", "mypy", *paths)

    def python(self, code: str) -> subprocess.CompletedProcess[str]:
        """Runs code over the copy's packages."""
        return self._run(sys.executable, "-c", code)

    def _run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: PLW1510 (whether it failed is what is asked)
            command, cwd=self._directory, capture_output=True, text=True, timeout=_SECONDS
        )
