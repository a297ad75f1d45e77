"""What real Helm makes of the chart and values."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from deploy.helm.generate import helm, made

Object = Mapping[str, Any]
"""An object for Kubernetes."""

HERE: Final = Path(__file__).parent

EXAMPLES: Final = {file.parent.name: file for file in made.examples(made.CHART)}
"""The values of each example, by name."""

BASE: Final = HERE / "base.yaml"
"""The least values that there are."""

SCENARIOS: Final[Mapping[str, tuple[Path, ...]]] = {
    **{name: (file,) for name, file in EXAMPLES.items()},
    "base": (BASE,),
    **{file.stem: (BASE, file) for file in sorted(HERE.glob("features/*.yaml"))},
}
"""Values to look at, by name: the examples, and what turns on all that no example has."""

OF_THE_SCHEMA: Final = "values don't meet the specifications of the schema"
"""Helm's words where the schema refuses values, before the chart sees them."""

needs_helm = pytest.mark.skipif(
    helm.executable() is None, reason="needs helm: make helm, or set HELM"
)
every_scenario = pytest.mark.parametrize("scenario", SCENARIOS)

_EXTRA: Final = "/templates/extra-objects.yaml\n"
_POD_TEMPLATES: Final = ("Deployment", "StatefulSet", "DaemonSet", "Job")


@dataclass(frozen=True)
class Pod:
    """A pod that an object of the release asks for, or is."""

    owner: str
    """`Deployment specfuse-fuser`."""
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    spec: Mapping[str, Any]

    @property
    def component(self) -> str:
        """`fuser`, `model` or what else it is."""
        return self.labels.get("app.kubernetes.io/component", "")

    @property
    def main(self) -> Mapping[str, Any]:
        """Its first container."""
        container: Mapping[str, Any] = self.spec["containers"][0]
        return container

    def containers(self) -> Iterator[Mapping[str, Any]]:
        """All of them, those that start first included."""
        yield from self.spec.get("initContainers", ())
        yield from self.spec["containers"]


@dataclass(frozen=True)
class Release:
    """The objects of a release."""

    text: str
    objects: tuple[Object, ...]
    own: tuple[Object, ...]
    """Those that are the chart's, without `extraObjects`."""

    def of(self, *kinds: str) -> list[Object]:
        """Those of a kind."""
        return [one for one in self.objects if one["kind"] in kinds]

    def pods(self) -> Iterator[Pod]:
        """Every pod that it asks for."""
        for one in self.objects:
            owner = f"{one['kind']} {one['metadata']['name']}"
            if one["kind"] in _POD_TEMPLATES:
                template = one["spec"]["template"]
                yield _pod(owner, template["metadata"], template["spec"])
            elif one["kind"] == "Pod":
                yield _pod(owner, one["metadata"], one["spec"])

    def names(self) -> list[str]:
        """`Service specfuse-fuser`, of every object."""
        return [f"{one['kind']} {one['metadata']['name']}" for one in self.objects]


def _pod(owner: str, metadata: Mapping[str, Any], spec: Mapping[str, Any]) -> Pod:
    return Pod(owner, metadata.get("labels", {}), metadata.get("annotations", {}), spec)


def render(
    *values: Path | Mapping[str, Any], name: str = helm.NAME, more: tuple[str, ...] = ()
) -> Release:
    """The release of these values, each laid over those before it. It is made once.

    Raises:
        HelmFailed: the chart refuses them.
    """
    text, refused = _outcome(_layers(values), name, more)
    if refused:
        raise helm.HelmFailed(text)
    return _release(text)


def outcome(
    *values: Path | Mapping[str, Any], name: str = helm.NAME, more: tuple[str, ...] = ()
) -> str:
    """What is rendered, or else why it is refused."""
    return _outcome(_layers(values), name, more)[0]


def _layers(values: Iterable[Path | Mapping[str, Any]]) -> tuple[Path | str, ...]:
    return tuple(one if isinstance(one, Path) else json.dumps(one) for one in values)


@cache
def _outcome(layers: tuple[Path | str, ...], name: str, more: tuple[str, ...]) -> tuple[str, bool]:
    """What Helm says, and whether that is a refusal."""
    try:
        return _text(layers, name, more), False
    except helm.HelmFailed as refusal:
        return str(refusal), True


def _text(layers: tuple[Path | str, ...], name: str, more: tuple[str, ...]) -> str:
    with tempfile.TemporaryDirectory() as directory:
        files = [_file(layer, Path(directory) / str(at)) for at, layer in enumerate(layers)]
        return helm.template(made.CHART, files, *more, release=name)


@cache
def _release(text: str) -> Release:
    own = "\n---\n".join(one for one in text.split("\n---\n") if _EXTRA not in one)
    return Release(text, tuple(_objects(text)), tuple(_objects(own)))


def _objects(text: str) -> Iterator[Object]:
    return (one for one in yaml.load_all(text, yaml.CSafeLoader) if one)


def _file(layer: Path | str, path: Path) -> Path:
    if isinstance(layer, Path):
        return layer
    path.write_text(layer)
    return path


def nulls(value: object, path: str = "$") -> Iterator[str]:
    """Where there is a `null` in what was rendered."""
    if value is None:
        yield path
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from nulls(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from nulls(inner, f"{path}[{at}]")
