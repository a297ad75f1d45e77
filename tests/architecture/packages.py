"""The rule of which room may import which package from outside, for import-linter."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
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

    Its room is the innermost module or package in the list that holds it. A list that deny-lists
    could not be: what nobody thought of is refused, and so are entries that nothing needs any more.
    """

    type_name = "packages"
    packages = Rooms()

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        del verbose
        rooms: dict[str, frozenset[str]] = self.packages  # type: ignore[assignment]
        imports = list(_outside_imports(graph))
        used = {(_room(module, rooms), package) for module, package in imports}
        allowed = {(room, package) for room, packages in rooms.items() for package in packages}
        refused = [
            f"{module} may not import {package}"
            for module, package in imports
            if (_room(module, rooms), package) not in allowed
        ]
        unused = [f"nothing in {room} imports {package}" for room, package in allowed - used]
        unknown = [f"there is no {room}" for room in rooms if room not in graph.modules]
        problems = sorted(refused) + sorted(unused) + sorted(unknown)
        return ContractCheck(kept=not problems, metadata={"problems": problems})

    def render_broken_contract(self, check: ContractCheck) -> None:
        for problem in check.metadata["problems"]:
            output.print_error(f"- {problem}")


def _outside_imports(graph: ImportGraph) -> Iterator[tuple[str, str]]:
    """Every import of a package that is neither ours nor the standard library's."""
    for module in graph.modules:
        if graph.is_module_squashed(module):
            continue
        for imported in graph.find_modules_directly_imported_by(module):
            package = imported.partition(".")[0]
            if graph.is_module_squashed(imported) and package not in sys.stdlib_module_names:
                yield module, package


def _room(module: str, rooms: Mapping[str, object]) -> str | None:
    """The innermost of the rooms that holds the module."""
    while module and module not in rooms:
        module = module.rpartition(".")[0]
    return module or None
