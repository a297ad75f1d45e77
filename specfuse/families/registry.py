"""The families that are shipped, and what a family may be used for."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Final

from specfuse.errors import Misconfigured
from specfuse.families.directory import DESCRIPTION


class Purpose(StrEnum):
    """What is done with what a family shows. No family serves both."""

    CHOOSING = "choosing"
    """Policies and their numbers are chosen by it; no result on it is reported."""
    REPORTING = "reporting"
    """Results on it are reported; nothing is chosen by it."""


SEEDS: Final = {Purpose.CHOOSING: range(100), Purpose.REPORTING: range(100, 1000)}
"""Which families are for what, by seed."""

_SHIPPED: Final = Path(__file__).with_name("shipped")


def purpose_of(seed: int) -> Purpose | None:
    """What the family of a seed is for; None if that has not been laid down."""
    return next((purpose for purpose, seeds in SEEDS.items() if seed in seeds), None)


def shipped() -> dict[str, Path]:
    """The directories of the shipped families, by name."""
    return {file.parent.name: file.parent for file in sorted(_SHIPPED.glob(f"*/{DESCRIPTION}"))}


def directory_of(name: str) -> Path:
    """The directory of a shipped family, or of one that was made.

    Raises:
        Misconfigured: there is none.
    """
    if name in (known := shipped()):
        return known[name]
    if not name or not (Path(name) / DESCRIPTION).is_file():
        names = ", ".join(known) or "none"
        raise Misconfigured(
            f"--family {name or repr(name)}: neither a directory with a {DESCRIPTION} nor shipped; "
            f"shipped are: {names}"
        )
    return Path(name)
