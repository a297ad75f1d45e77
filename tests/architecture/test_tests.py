"""Unit tests are where what they test is."""

from __future__ import annotations

from tests.support.repository import REPOSITORY

UNIT = REPOSITORY / "tests" / "unit"


def test_every_unit_test_is_of_a_module_in_the_same_place() -> None:
    """`a/b/test_c.py` or `a/b/test_c_aspect.py` tests the module or package `a.b.c`."""
    for file in UNIT.rglob("test_*.py"):
        place = REPOSITORY / file.parent.relative_to(UNIT)
        name = file.stem.removeprefix("test_")
        modules = {path.stem for path in place.iterdir() if path.suffix == ".py" or path.is_dir()}
        assert any(name == one or name.startswith(f"{one}_") for one in modules), (
            f"{file.relative_to(REPOSITORY)}: there is no {name} in {place.relative_to(REPOSITORY)}"
        )
