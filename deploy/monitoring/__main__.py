"""`python -m deploy.monitoring`: writes everything that is made here."""

from __future__ import annotations

import sys

from deploy.monitoring import made


def main() -> int:
    """Writes the files, and names those that changed."""
    for path, text in made.files():
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            print(f"wrote {path.relative_to(made.REPOSITORY)}")  # noqa: T201 (a command)
    return 0


if __name__ == "__main__":
    sys.exit(main())
