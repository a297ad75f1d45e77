"""`python -m deploy.helm.generate`: writes everything that is made from the chart's values."""

from __future__ import annotations

import sys
from pathlib import Path

from deploy.helm.generate import made
from deploy.helm.generate.helm import REPOSITORY, HelmFailed
from deploy.helm.generate.values import Faults


def main() -> int:
    """Writes the files, and names those that changed."""
    try:
        for path, text in made.files(made.CHART):
            _write(path, text)
    except (Faults, HelmFailed, ValueError) as error:
        print(error, file=sys.stderr)  # noqa: T201 (a command)
        return 1
    return 0


def _write(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
        print(f"wrote {path.relative_to(REPOSITORY)}")  # noqa: T201 (a command)


if __name__ == "__main__":
    sys.exit(main())
