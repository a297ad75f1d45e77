"""The schemas of objects that Kubernetes knows only where others are installed, such as KEDA.

Their own definitions are not part of this repository. In `custom_resources/` there is what of them
the chart may write. Where SPECFUSE_CRDS names a folder of the real ones, these count, too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml
from jsonschema import Draft202012Validator

Kind = tuple[str, str]
"""`apiVersion` and `kind`."""
Schema = dict[str, Any]

OURS: Final = Path(__file__).parent / "custom_resources"
_OF_KUBERNETES: Final = ("apiVersion", "kind", "metadata")
_GATEWAY: Final = "gateway.networking.k8s.io"
_OPEN: Final = ("additionalProperties", "x-kubernetes-preserve-unknown-fields")


def is_custom(one: Mapping[str, Any]) -> bool:
    """Whether Kubernetes alone does not know the kind."""
    group = one["apiVersion"].rpartition("/")[0]
    return "." in group and (group == _GATEWAY or not group.endswith(".k8s.io"))


def faults(one: Mapping[str, Any], schemas: Mapping[Kind, Schema]) -> list[str]:
    """What is wrong with an object; fields that its schema does not name are."""
    kind = (one["apiVersion"], one["kind"])
    if kind not in schemas:
        return [f"there is no schema for {kind[1]} of {kind[0]}"]
    validator = Draft202012Validator(schemas[kind])
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(one)]


@cache
def ours() -> dict[Kind, Schema]:
    """The schemas of what the chart may write."""
    schemas = {}
    for file in OURS.glob("*.yaml"):
        page = yaml.safe_load(file.read_text())
        for kind, spec in page["kinds"].items():
            whole = {"type": "object", "required": ["spec"], "properties": {"spec": spec}}
            schemas[page["apiVersion"], kind] = _closed(whole, at_root=True)
    return schemas


@cache
def real() -> dict[Kind, Schema]:
    """The schemas of the definitions in SPECFUSE_CRDS; none if there is no such folder."""
    folder = os.environ.get("SPECFUSE_CRDS")
    return dict(_definitions(Path(folder))) if folder else {}


def _definitions(folder: Path) -> Iterator[tuple[Kind, Schema]]:
    for file in folder.glob("*.yaml"):
        spec = yaml.safe_load(file.read_text())["spec"]
        for version in spec["versions"]:
            kind = (f"{spec['group']}/{version['name']}", spec["names"]["kind"])
            yield kind, _closed(version["schema"]["openAPIV3Schema"], at_root=True)


def _closed(schema: Mapping[str, Any], *, at_root: bool = False) -> Schema:
    """A structural schema as JSON schema: fields that it does not name would be dropped."""
    closed = {key: value for key, value in schema.items() if not key.startswith("x-kubernetes")}
    closed.pop("format", None)  # of numbers and dates: not what could be wrong here
    if schema.get("x-kubernetes-int-or-string"):
        closed["type"] = ["integer", "string"]
        closed.pop("anyOf", None)
    if "items" in schema:
        closed["items"] = _closed(schema["items"])
    if isinstance(schema.get("additionalProperties"), dict):
        closed["additionalProperties"] = _closed(schema["additionalProperties"])
    if "properties" in schema:
        known = {name: _closed(inner) for name, inner in schema["properties"].items()}
        closed["properties"] = (dict.fromkeys(_OF_KUBERNETES, True) | known) if at_root else known
        if not any(key in schema for key in _OPEN):
            closed["additionalProperties"] = False
    return closed
