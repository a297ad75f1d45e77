"""The keys of `values.yaml`, and where to look at what they do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from deploy.helm.generate import made
from deploy.helm.generate.values import Value, read
from tests.chart.release import SCENARIOS


def _with_those_below(values: tuple[Value, ...]) -> Iterator[Value]:
    for value in values:
        yield value
        yield from _with_those_below(value.children)


KEYS: Final = {value.name: value for value in _with_those_below(read(made.CHART / "values.yaml"))}
"""Every key, by its name."""

LEAVES: Final = {name: value for name, value in KEYS.items() if not value.children}
"""Those that are one value each."""

SECTIONS: Final = {name: value for name, value in KEYS.items() if value.children}
"""Those that have keys of their own."""


def nested(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """Values that say this one alone."""
    for key in reversed(path):
        value = {key: value}
    found: dict[str, Any] = value
    return found


def layer(value: Value, given: Any, files: Iterable[Path]) -> dict[str, Any]:
    """Values that are laid over these files. What is of models is said of each of them, too, as
    its own word is the last."""
    change = nested(value.path, given)
    if value.path[0] == "modelDefaults":
        models = {name for file in files for name in yaml.safe_load(file.read_text())["models"]}
        change["models"] = dict.fromkeys(sorted(models), change["modelDefaults"])
    return change


def likeliest_first(value: Value) -> list[tuple[Path, ...]]:
    """All scenarios; those that speak of a value, or of what is around it, come first."""

    def mentions(files: tuple[Path, ...]) -> int:
        text = "\n".join(file.read_text() for file in files)
        return sum(1 for key in value.path if re.search(rf"\b{re.escape(key)}:", text))

    return sorted(SCENARIOS.values(), key=mentions, reverse=True)
