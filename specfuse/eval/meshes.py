"""The evaluation's own mesh: a mesh file's models, and a fuser with every ensemble to compare."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from fuser_service.settings.settings import Ensemble
from specfuse.config import settings_file
from specfuse.errors import Misconfigured
from specfuse.eval.configurations import Configuration

_PATIENCE: Final = {
    "straggler_grace_seconds": 120.0,
    "round_timeout_seconds": 300.0,
    "request_timeout_seconds": 3600.0,
}
"""Quality is measured, not speed: no member is late because the machine is busy."""


def mesh_for(file: Path, configurations: Iterable[Configuration]) -> dict[str, Any]:
    """The mesh in `file` with these ensembles of all its models, and one of each model alone.

    Raises:
        Misconfigured: the file cannot be read, or has no models.
    """
    mesh = settings_file.read_mapping(file)
    models = mesh.get("models")
    if not isinstance(models, dict) or not models:
        raise Misconfigured(f"{file}: models: must be a mapping of at least one model, by name")
    members = list(models)
    fused = {one.name: {"members": members, **_PATIENCE, **one.settings} for one in configurations}
    alone = {name: {"members": [name], **_PATIENCE} for name in members}
    clashing = sorted(fused.keys() & alone.keys())
    if clashing:
        raise Misconfigured(f"{file}: models.{clashing[0]}: the name of a configuration; rename it")
    fuser = given if isinstance(given := mesh.get("fuser"), dict) else {}
    # Who may ask is said of other ensembles; this mesh is asked from here alone, and for free.
    rest = {key: value for key, value in fuser.items() if key not in ("http", "listen", "tenancy")}
    return {**mesh, "fuser": {**rest, "ensembles": fused | alone}}


def fingerprints(mesh: Mapping[str, Any], max_tokens: int | None) -> dict[str, str]:
    """A digest by ensemble of all settings that its answers depend on, defaults included.

    A model's files count by their path alone.
    """
    fuser = mesh["fuser"]
    shared = [mesh["models"], fuser.get("limits"), max_tokens]
    return {
        name: _digest([*shared, section["members"], _completed(section)])
        for name, section in fuser["ensembles"].items()
    }


def _completed(ensemble: Mapping[str, Any]) -> dict[str, Any]:
    """All its settings. The mesh file checks its members' names."""
    return Ensemble.model_validate({**ensemble, "members": ["any"]}).model_dump(mode="json")


def _digest(settings: list[Any]) -> str:
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
