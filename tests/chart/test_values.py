"""Every value does something, and the templates use no others."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from deploy.helm.generate import made
from deploy.helm.generate.helm import HelmFailed
from deploy.helm.generate.values import Value, read
from tests.chart.release import SCENARIOS, needs_helm, render

DIGEST = f"sha256:{'2' * 64}"

CHANGED: Final[Mapping[str, Any]] = {}
"""Another right value, where the type does not say one."""

OF_ANY_TYPE: Final[Mapping[type, Any]] = {list: [{"name": "other"}], dict: {"other": "value"}}


def leaves(values: tuple[Value, ...]) -> Iterator[Value]:
    for value in values:
        if value.children:
            yield from leaves(value.children)
        else:
            yield value


LEAVES: Final = {value.name: value for value in leaves(read(made.CHART / "values.yaml"))}


def other(value: Value) -> Any:
    """Another value than the default."""
    if value.name in CHANGED:
        return CHANGED[value.name]
    default = value.default
    if "enum" in value.fragment:
        return next(one for one in value.fragment["enum"] if one != default)
    if isinstance(default, bool):
        return not default
    if isinstance(default, int | float):
        return default + 1
    if isinstance(default, str):
        return f"{default}x"
    if default is None:
        return 99 if "integer" in value.fragment["type"] else "3Gi"
    return OF_ANY_TYPE[type(default)]


def nested(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    for key in reversed(path):
        value = {key: value}
    return value


def likeliest_first(value: Value) -> list[tuple[Path, ...]]:
    """All scenarios; those that speak of a value, or of what is around it, come first."""

    def mentions(files: tuple[Path, ...]) -> int:
        text = "\n".join(file.read_text() for file in files)
        return sum(1 for key in value.path if re.search(rf"\b{re.escape(key)}:", text))

    return sorted(SCENARIOS.values(), key=mentions, reverse=True)


@needs_helm
@pytest.mark.parametrize("name", LEAVES)
def test_every_value_makes_a_difference(name: str) -> None:
    """To what some scenario renders, or to whether the chart takes it."""
    value = LEAVES[name]
    change = nested(value.path, other(value))
    for scenario in likeliest_first(value):
        try:
            changed = render(*scenario, change).text
        except HelmFailed as refusal:
            assert "specifications of the schema" not in str(refusal), str(refusal)
            return
        if changed != render(*scenario).text:
            return
    pytest.fail(f"{name}: {change} changes nothing of any scenario")
