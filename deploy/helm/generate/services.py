"""What the services take in their settings, as fragments of JSON schema draft 7."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from pydantic import BaseModel

from fuser_service.settings.settings import Settings as FuserSettings
from model_service.settings import Settings as ModelSettings

_SETTINGS: Final[Mapping[str, type[BaseModel]]] = {"fuser": FuserSettings, "model": ModelSettings}
_OF_NO_USE: Final = frozenset({"$defs", "title", "format", "discriminator"})
"""Keywords that validate nothing here. Paths are text; titles repeat the keys."""


def known(reference: str) -> bool:
    """Whether it refers to a service's settings."""
    return reference.partition("#")[0] in _SETTINGS


def fragment(reference: str) -> dict[str, Any]:
    """What `fuser#/$defs/Ensemble` refers to. Its own references have the same form.

    Raises:
        KeyError: there is no such thing.
    """
    service, _, pointer = reference.partition("#")
    found: Any = _schema(service)
    for part in pointer.strip("/").split("/"):
        found = found[part]
    translated: dict[str, Any] = _translated(found, service)
    return translated


@cache
def _schema(service: str) -> dict[str, Any]:
    return _SETTINGS[service].model_json_schema()


def _translated(schema: Any, service: str) -> Any:  # noqa: ANN401 (any part of a schema)
    if isinstance(schema, list):
        return [_translated(part, service) for part in schema]
    if not isinstance(schema, dict):
        return schema
    translated = {
        keyword: _of_keyword(keyword, value, service)
        for keyword, value in schema.items()
        if keyword not in _OF_NO_USE
    }
    if "patternProperties" in translated:  # the only names that there may be
        translated["additionalProperties"] = False
    return _alone(translated) if "$ref" in translated else translated


def _of_keyword(keyword: str, value: Any, service: str) -> Any:  # noqa: ANN401 (as above)
    """A keyword's value. Names of properties are no keywords, whatever they are."""
    if keyword in ("properties", "patternProperties"):
        return {name: _translated(inner, service) for name, inner in value.items()}
    if keyword == "$ref":
        return f"{service}{value}"
    return value if keyword in ("default", "enum", "const") else _translated(value, service)


def _alone(schema: Mapping[str, Any]) -> dict[str, Any]:
    """In draft 7 a reference hides what stands beside it."""
    beside = {keyword: value for keyword, value in schema.items() if keyword != "$ref"}
    reference = {"$ref": schema["$ref"]}
    return {**beside, "allOf": [reference]} if beside else reference
