"""What each version of Kubernetes' API takes; a field that it does not know is an error."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

VERSIONS: Final = ("1.31", "1.32", "1.33", "1.34", "1.35", "1.36", "1.37")

_SCHEMAS: Final = files("kubernetes_validate") / "kubernetes-json-schema"


def faults(one: Mapping[str, Any], version: str) -> list[str]:
    """What a Kubernetes of this version would not take of an object."""
    validator = _validator(version, _name(one["kind"], one["apiVersion"]))
    if validator is None:
        return [f"Kubernetes {version} has no {one['kind']} of {one['apiVersion']}"]
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(one)]


def _name(kind: str, api_version: str) -> str:
    """`networkpolicy-networking-v1`: schemas are named without the domain of a group."""
    group, _, version = api_version.rpartition("/")
    return "-".join(part for part in (kind.lower(), group.partition(".")[0], version) if part)


@cache
def _validator(version: str, name: str) -> Draft202012Validator | None:
    file = _folder(version) / f"{name}.json"
    if not file.is_file():
        return None
    return Draft202012Validator(json.loads(file.read_text()), registry=_definitions(version))


@cache
def _definitions(version: str) -> Registry[Any]:
    definitions = json.loads((_folder(version) / "_definitions.json").read_text())
    return Resource.from_contents(definitions) @ Registry()


def _folder(version: str) -> Any:
    return _SCHEMAS / f"v{version}.0-local-strict"
