"""The schema of the values: JSON schema draft 7, which every version of Helm understands."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from deploy.helm.generate import services
from deploy.helm.generate.values import Faults, Value

_SAYS_THE_TYPE: Final = frozenset({"type", "enum", "const", "$ref", "anyOf", "oneOf", "allOf"})
_TYPES: Final[tuple[tuple[type, str], ...]] = (
    (bool, "boolean"),  # a bool is an int, too
    (int, "integer"),
    (float, "number"),
    (str, "string"),
    (list, "array"),
    (dict, "object"),
)
_HAVE_AN_EMPTY_ONE: Final = frozenset({"string", "array", "object"})
_REFUSE_IT: Final = frozenset({"enum", "minLength", "minItems", "minProperties"})
_MOST: Final = 2**31 - 1
"""The largest number, if nothing else is said: Kubernetes has 32 bits for most of its own."""
_OPTIONAL: Final = "?"
"""At the end of a reference: none of its keys is required, as the chart may add what is missing."""

_OF_A_PARENT: Final[Mapping[str, Any]] = {
    "global": {"description": "What Helm hands down from a parent chart.", "type": "object"},
    "enabled": {
        "description": "For a parent chart's `condition`; it means nothing here.",
        "type": "boolean",
    },
}


def schema(values: Iterable[Value]) -> dict[str, Any]:
    """The schema of the values, with what it refers to.

    Raises:
        Faults: a fragment refers to what does not exist.
    """
    values = tuple(values)
    definitions = _Definitions()
    properties = {value.path[-1]: _of_value(value, definitions) for value in values}
    if definitions.unknown:
        raise Faults(
            [f"@schema: $ref: {one}: there is no such thing" for one in definitions.unknown]
        )
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "additionalProperties": False,
        "properties": {**properties, **_OF_A_PARENT},
        "definitions": dict(sorted(definitions.found.items())),
        "allOf": [_demands(values)],
    }


def _demands(values: Iterable[Value]) -> dict[str, Any]:
    """What must be left of the values, apart from what they are: some refer to others for that.

    Of a `null` Helm leaves nothing, and not its default. A text, a list or a map is empty then. No
    section is, nor a number, nor what says that it is not.
    """
    values = tuple(values)
    demands = {
        "required": [value.path[-1] for value in values if not _may_be_nothing(value)],
        "properties": {
            value.path[-1]: _demands(value.children) for value in values if value.children
        },
    }
    return {keyword: said for keyword, said in demands.items() if said}


def _may_be_nothing(value: Value) -> bool:
    fragment = {**_type_of(value.default), **value.fragment}
    some = _types(fragment) or {"object"}  # a service's section, which is referred to
    if value.children or "null" in some:
        return not value.children
    return (
        bool(_HAVE_AN_EMPTY_ONE & some)
        and not _REFUSE_IT & fragment.keys()
        and bool(re.search(fragment.get("pattern", ""), ""))
    )


def _types(fragment: Mapping[str, Any]) -> set[str]:
    said = fragment.get("type", [])
    return {said} if isinstance(said, str) else set(said)


def _of_value(value: Value, definitions: _Definitions) -> dict[str, Any]:
    fragment = definitions.gathered(dict(value.fragment))
    if "$ref" in fragment:  # which hides what stands beside it
        fragment["allOf"] = [{"$ref": fragment.pop("$ref")}]
    inferred = _inferred(value, definitions)
    if _SAYS_THE_TYPE & fragment.keys():
        inferred.pop("type", None)
    said = {**inferred, **fragment}
    bounds = {"maximum": _MOST} if {"integer", "number"} & _types(said) else {}
    return {"description": value.prose, **bounds, **said}


def _inferred(value: Value, definitions: _Definitions) -> dict[str, Any]:
    if value.children:
        return {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                child.path[-1]: _of_value(child, definitions) for child in value.children
            },
        }
    return {"default": value.default, **_type_of(value.default)}


def _type_of(default: object) -> dict[str, str]:
    """The type that a default shows; nothing does not show any."""
    return next(({"type": name} for type_, name in _TYPES if isinstance(default, type_)), {})


class _Definitions:
    """What fragments refer to, gathered with all that it refers to itself."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}
        self.unknown: list[str] = []

    def gathered(self, fragment: Any) -> Any:  # noqa: ANN401 (any part of a schema)
        """The fragment with its references led to the definitions."""
        if isinstance(fragment, list):
            return [self.gathered(part) for part in fragment]
        if not isinstance(fragment, dict):
            return fragment
        return {
            key: self._led(value) if key == "$ref" else self.gathered(value)
            for key, value in fragment.items()
        }

    def _led(self, reference: str) -> str:
        if not services.known(reference):
            return reference
        name = reference.replace("#/$defs/", ".").replace("#/", ".").replace("/", ".")
        if name not in self.found:
            self._define(name, reference)
        return f"#/definitions/{name}"

    def _define(self, name: str, reference: str) -> None:
        try:
            fragment = services.fragment(reference.removesuffix(_OPTIONAL))
        except KeyError:
            self.unknown.append(reference)
            return
        if reference.endswith(_OPTIONAL):
            fragment.pop("required", None)
        self.found[name] = {}  # it may refer to itself
        self.found[name] = self.gathered(fragment)
