"""The picture of the rooms in `ARCHITECTURE.md` is the tree as it is."""

from __future__ import annotations

from tests.support.repository import REPOSITORY

ROOTS = ("fuser_service", "model_service", "specfuse")


def drawn() -> set[str]:
    """The paths that the picture has."""
    page = (REPOSITORY / "ARCHITECTURE.md").read_text()
    picture = page.partition("## Rooms\n\n```\n")[2].partition("```")[0]
    paths: set[str] = set()
    above: list[str] = []
    for line in picture.splitlines():
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        above[depth:] = [name.rstrip("/")]
        paths.add("/".join(above))
    return paths


def rooms() -> set[str]:
    """Every package, and every module that lies in no package but a root."""
    packages = {
        file.parent.relative_to(REPOSITORY)
        for root in ROOTS
        for file in (REPOSITORY / root).rglob("__init__.py")
    }
    loose = {
        file.relative_to(REPOSITORY)
        for root in ROOTS
        for file in (REPOSITORY / root).glob("*.py")
        if file.name != "__init__.py"
    }
    return {str(path) for path in packages | loose}


def test_it_shows_every_room_and_no_other() -> None:
    assert drawn() == rooms()
