"""The schema of the values: JSON schema draft 7, which every version of Helm understands."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
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
_OF_A_KEY: Final = "#/properties/"
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
    made = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "additionalProperties": False,
        "properties": {**properties, **_OF_A_PARENT},
        "definitions": dict(sorted(definitions.found.items())),
    }
    _require_sections(made, values, _referred_to(values))
    return made


def _referred_to(values: Iterable[Value]) -> set[str]:
    """The keys whose schema is that of others, too, which need not say everything."""
    parts = (part for value in values for part in _parts(value.fragment))
    return {part.rpartition("/")[2] for part in parts if part.startswith(_OF_A_KEY)}


def _parts(fragment: object) -> Iterator[str]:
    """All text in a fragment."""
    if isinstance(fragment, str):
        yield fragment
    elif isinstance(fragment, Mapping):
        for part in fragment.values():
            yield from _parts(part)


def _require_sections(
    fragment: dict[str, Any], values: Iterable[Value], partial: Collection[str] = ()
) -> None:
    """Has sections refused of which nothing is left.

    Of an empty `fuser:` Helm leaves nothing, and not its defaults. Of those that may be partial,
    nothing within is required.
    """
    sections = [value for value in values if value.children]
    if sections:
        fragment["required"] = [value.path[-1] for value in sections]
    for value in sections:
        if value.path[-1] not in partial:
            _require_sections(fragment["properties"][value.path[-1]], value.children)


def _of_value(value: Value, definitions: _Definitions) -> dict[str, Any]:
    fragment = definitions.gathered(dict(value.fragment))
    if "$ref" in fragment:  # which hides what stands beside it
        fragment["allOf"] = [{"$ref": fragment.pop("$ref")}]
    inferred = _inferred(value, definitions)
    if _SAYS_THE_TYPE & fragment.keys():
        inferred.pop("type", None)
    return {"description": value.prose, **inferred, **fragment}


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
