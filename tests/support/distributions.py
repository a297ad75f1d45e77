"""What pip would install for an extra of this project, and a Python in which nothing else is there.

    python -m tests.support.distributions EXTRA python -m MODULE [ARGUMENT...]

runs a module as if only SpecFuse with that extra were installed.
"""

from __future__ import annotations

import runpy
import sys
import tomllib
from collections.abc import Iterator, Sequence
from importlib import metadata
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.repository import REPOSITORY

US = "specfuse"


def installed_for(extra: str) -> frozenset[str]:
    """The canonical names of all that SpecFuse with the extra needs on this machine, ours left out.

    Ours is read from `pyproject.toml`, that of others from what is installed here.
    """
    found: set[tuple[str, frozenset[str]]] = set()
    pending = [Requirement(f"{US}[{extra}]")]
    while pending:
        one = pending.pop()
        name, extras = canonicalize_name(one.name), frozenset(one.extras)
        if (name, extras) not in found:
            found.add((name, extras))
            pending += _needs(name, extras)
    return frozenset(name for name, _ in found) - {US}


def _needs(name: str, extras: frozenset[str]) -> Iterator[Requirement]:
    """What a distribution with these extras asks for on this machine."""
    if name == US:
        project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
        for lines in (project["dependencies"], *map(project["optional-dependencies"].get, extras)):
            yield from map(Requirement, lines)
        return
    for line in metadata.requires(name) or ():
        one = Requirement(line)
        if one.marker is None or any(one.marker.evaluate({"extra": e}) for e in ("", *extras)):
            yield one


class Installed(MetaPathFinder):
    """Finds what another finder finds, but for what belongs to distributions that are not there."""

    def __init__(self, finder: MetaPathFinder, names: frozenset[str]) -> None:
        self._finder = finder
        self._names = names | {US}
        self._absent = frozenset(
            package
            for package, owners in metadata.packages_distributions().items()
            if not {canonicalize_name(owner) for owner in owners} & self._names
        )

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's, or nothing if it is not there."""
        absent = name.partition(".")[0] in self._absent
        return None if absent else self._finder.find_spec(name, path, target)

    def find_distributions(
        self, context: metadata.DistributionFinder.Context
    ) -> Iterator[metadata.Distribution]:
        """What is said of the distributions that are there."""
        find = getattr(self._finder, "find_distributions", lambda _: ())
        for one in find(context):
            if canonicalize_name(one.name) in self._names:
                yield one


def _main() -> None:
    extra, _, _, module, *arguments = sys.argv[1:]
    names = installed_for(extra)
    for name in [*sys.modules]:  # what was needed to get here
        if name.partition(".")[0] == "packaging":
            del sys.modules[name]
    sys.meta_path[:] = [Installed(finder, names) for finder in sys.meta_path]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main()
