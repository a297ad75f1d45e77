"""Where a family lies: its directory, which names it to whoever evaluates it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from specfuse.errors import Misconfigured
from specfuse.families.description import Family

DESCRIPTION: Final = "family.json"
MESH: Final = "mesh.yaml"
MODELS: Final = "models"


def described(directory: Path, expected: Family | None = None) -> Family:
    """The family that a directory has.

    Raises:
        Misconfigured: it has none, or not the expected one.
    """
    file = directory / DESCRIPTION
    try:
        family = Family.from_json(file.read_bytes())
    except OSError as error:
        raise Misconfigured(f"{file}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise Misconfigured(f"{file}: not the description of a family: {error}") from error
    if expected is not None and family != expected:
        raise Misconfigured(
            f"{file}: has {family.name}, not {expected.name}; name another directory"
        )
    return family
