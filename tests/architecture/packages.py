"""The rule of which room may import which package from outside, for import-linter."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class Rooms(fields.Field):
    """Lists of packages, by the module whose subtree may import them."""

    def parse(self, raw_data: Any) -> dict[str, frozenset[str]]:
        if not isinstance(raw_data, Mapping):
            raise fields.ValidationError("Must be a table of module = [packages].")
        return {room: frozenset(packages) for room, packages in raw_data.items()}


class PackagesContract(Contract):
    """A module may import the standard library, and the packages listed for its room.

    For some rooms the modules of the standard library are listed as well: `standard`. A module's
    room is the innermost module or package in the list that holds it. What nobody thought of is
    refused, as no list of what is forbidden could, and so are entries that nothing needs any more.
    """

    type_name = "packages"
    packages = Rooms()
    standard = Rooms(required=False, default={})

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        del verbose
        packages: dict[str, frozenset[str]] = self.packages  # type: ignore[assignment]
        standard: dict[str, frozenset[str]] = self.standard  # type: ignore[assignment]
        outside = list(_outside_imports(graph))
        foreign = [one for one in outside if one[1] not in sys.stdlib_module_names]
        listed = [
            (module, package)
            for module, package in outside
            if package in sys.stdlib_module_names and _room(module, standard)
        ]
        problems = [*_problems(packages, foreign), *_problems(standard, listed)]
        problems += [
            f"there is no {room}" for room in (*packages, *standard) if room not in graph.modules
        ]
        return ContractCheck(kept=not problems, metadata={"problems": sorted(problems)})

    def render_broken_contract(self, check: ContractCheck) -> None:
        for problem in check.metadata["problems"]:
            output.print_error(f"- {problem}")


def _problems(
    rooms: Mapping[str, frozenset[str]], imports: Sequence[tuple[str, str]]
) -> Iterator[str]:
    """What is imported and not listed, or listed and not imported."""
    used = {(_room(module, rooms), package) for module, package in imports}
    allowed = {(room, package) for room, packages in rooms.items() for package in packages}
    for module, package in imports:
        if (_room(module, rooms), package) not in allowed:
            yield f"{module} may not import {package}"
    for room, package in allowed - used:
        yield f"nothing in {room} imports {package}"


def _outside_imports(graph: ImportGraph) -> Iterator[tuple[str, str]]:
    """Every import of a package that is not ours."""
    for module in graph.modules:
        if graph.is_module_squashed(module):
            continue
        for imported in graph.find_modules_directly_imported_by(module):
            if graph.is_module_squashed(imported):
                yield module, imported.partition(".")[0]


def _room(module: str, rooms: Mapping[str, object]) -> str | None:
    """The innermost of the rooms that holds the module."""
    while module and module not in rooms:
        module = module.rpartition(".")[0]
    return module or None
