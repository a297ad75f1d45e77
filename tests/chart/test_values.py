"""Every value does something, and the templates use no others."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import pytest

from deploy.helm.generate import made
from deploy.helm.generate.values import Value, read
from tests.chart.keys import LEAVES, layer, likeliest_first
from tests.chart.release import BASE, OF_THE_SCHEMA, needs_helm, outcome

DIGEST: Final = f"sha256:{'2' * 64}"
RESOURCES: Final = {"limits": {"memory": "99Gi"}}
AFFINITY: Final = {"podAntiAffinity": {"other": "value"}}
BEHAVIOR: Final = {"scaleUp": {"stabilizationWindowSeconds": 9}}
ANYBODY: Final = [{"podSelector": {}}]
SIZE, SECONDS, URL = "9Gi", "99s", "https://other.example"

CHANGED: Final[Mapping[str, Any]] = {
    "models": {"other": {"weights": {"path": "/other"}}},
    "modelDefaults.weights.endpoint": URL,
    "modelDefaults.weights.cache.size": SIZE,
    "modelDefaults.weights.cache.accessModes": ["ReadWriteMany"],
    "modelDefaults.torch": {"threads": 3},
    "modelDefaults.vllm": {"connections": 3},
    "modelDefaults.tgi": {"connections": 3},
    "modelDefaults.sglang": {"connections": 3},
    "modelDefaults.llama_cpp": {"connections": 3},
    "modelDefaults.scripted": {"context_window": 3},
    "modelDefaults.server.resources": RESOURCES,
    "modelDefaults.affinity": AFFINITY,
    "modelDefaults.image.digest": DIGEST,
    "modelDefaults.resources": RESOURCES,
    "modelDefaults.tmp": SIZE,
    "modelDefaults.autoscaling.behavior": BEHAVIOR,
    "modelDefaults.limits": {"prompt_bytes": 3},
    "ensembles": {"other": {"members": ["llama"]}},
    "externalMembers": {"other": {"endpoints": ["other:1"]}},
    "gpuBudget": {"nvidia.com/gpu": 0},
    "fuser.image.digest": DIGEST,
    "fuser.affinity": AFFINITY,
    "fuser.resources": RESOURCES,
    "fuser.autoscaling.behavior": BEHAVIOR,
    "fuser.limits": {"prompt_bytes": 3},
    "fuser.tenancy": {"teams": {"other": {}}},
    "monitoring.podMonitor.interval": SECONDS,
    "monitoring.rules.for": {"MemberDown": SECONDS},
    "monitoring.rules.longWindow": SECONDS,
    "monitoring.rules.window": SECONDS,
    "monitoring.serviceMonitor.interval": SECONDS,
    "networkPolicy.apiServer.ports": [1],
    "networkPolicy.callers": ANYBODY,
    "networkPolicy.collector": ANYBODY,
    "networkPolicy.dns.ports": [1],
    "networkPolicy.dns.to": ANYBODY,
    "networkPolicy.hub.ports": [1],
    "networkPolicy.hub.blocks": ANYBODY,
    "networkPolicy.monitoring": ANYBODY,
    "prometheus.serverAddress": URL,
    "tls.callers.duration": SECONDS,
    "tls.callers.renewBefore": SECONDS,
    "tls.mesh.duration": SECONDS,
    "tls.mesh.renewBefore": SECONDS,
    "tracing": {"endpoint": "collector:4317"},
}
"""Another right value, where the default does not say one."""


def other(value: Value) -> Any:
    """Another value than the default."""
    if value.name in CHANGED:
        return CHANGED[value.name]
    if "enum" in value.fragment:
        return next(one for one in value.fragment["enum"] if one != value.default)
    return like(value.default, value.fragment)


def like(default: Any, fragment: Mapping[str, Any]) -> Any:
    """Another value of the type that a default has, or that is said where it has none."""
    of_type = {
        bool: lambda: not default,
        int: lambda: default + 1,
        float: lambda: default + 1,
        str: lambda: f"{default}x",
        dict: lambda: {"other": "value"},
        list: lambda: [items_like(fragment)],
        type(None): lambda: 99 if "integer" in fragment["type"] else "3Gi",
    }
    return of_type[type(default)]()


def items_like(fragment: Mapping[str, Any]) -> Any:
    is_text = fragment["items"].get("type") == "string"
    return "other" if is_text else {"name": "other", "kind": "Other"}


@needs_helm
@pytest.mark.parametrize("name", LEAVES)
def test_every_value_makes_a_difference(name: str) -> None:
    """To what some scenario renders, or to whether the chart takes it."""
    value = LEAVES[name]
    for scenario in likeliest_first(value):
        changed = outcome(*scenario, layer(value, other(value), scenario))
        assert OF_THE_SCHEMA not in changed
        if changed != outcome(*scenario):
            return
    pytest.fail(f"{name}: {other(value)!r} changes nothing of any scenario")


@needs_helm
def test_a_model_s_own_word_is_like_the_same_word_for_all() -> None:
    own = {"schedulerName": "x", "weights": {"cache": {"size": "9Gi"}}, "torch": {"threads": 3}}
    of_each = outcome(BASE, {"models": dict.fromkeys(("llama", "qwen"), own)})
    assert of_each == outcome(BASE, {"modelDefaults": own})
    assert of_each.count("threads: 3") == 2


CHAIN: Final = r"(?:\$\w*|\.root)?(?:\.\w+)*"
ALIAS: Final = re.compile(rf"(\$\w+) :?= ({CHAIN})\s*-?}}}}")
USE: Final = re.compile(rf"(?<![\w$.]){CHAIN}")


def used(template: str) -> Iterator[tuple[str, ...]]:
    """The values that a template names by all of their keys, or by a variable's name for the first.

    Of `with` and `range` it does not see what they lead to.
    """
    known = {".model": ("modelDefaults",), "$model": ("modelDefaults",)}
    for variable, chain in ALIAS.findall(template):
        if path := resolved(chain, known):
            known[variable] = path
    for chain in USE.findall(template):
        if path := resolved(chain, known):
            yield path


def resolved(chain: str, known: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The keys that a chain of fields leads through; none if it is of something else."""
    _, is_value, path = chain.partition(".Values.")
    if is_value:
        return tuple(path.split("."))
    head, *fields = re.findall(r"\$\w*|\.\w+", chain) or [""]
    if head not in known:
        return ()
    return (*known[head], *(one.removeprefix(".") for one in fields))


def is_documented(path: tuple[str, ...], values: tuple[Value, ...]) -> bool:
    """Whether the keys lead to a value, to what is around values, or into a value of any keys."""
    found = next((one for one in values if path and one.path[-1] == path[0]), None)
    if found is None:
        return not path
    return not found.children or is_documented(path[1:], found.children)


def test_templates_use_documented_values_only() -> None:
    values = read(made.CHART / "values.yaml")
    paths = {
        path
        for file in sorted((made.CHART / "templates").rglob("*"))
        if file.is_file()
        for path in used(file.read_text())
    }
    assert len(paths) > len(LEAVES) / 2, "the search misses most"
    assert sorted(".".join(path) for path in paths if not is_documented(path, values)) == []


@pytest.mark.parametrize(
    ("template", "path"),
    [
        ("{{ .Values.fuser.replicas }}", "fuser.replicas"),
        ("{{ $.Values.fuser.replicas | quote }}", "fuser.replicas"),
        ("{{- with .root.Values.tls }}", "tls"),
        ("{{ .model.gpu.count }}", "modelDefaults.gpu.count"),
        ("{{- $gpu := .model.gpu -}}{{ if $gpu.claim.count }}", "modelDefaults.gpu.claim.count"),
        ('{{ include "x" (dict "image" .model.image) }}', "modelDefaults.image"),
    ],
)
def test_uses_of_values_are_found(template: str, path: str) -> None:
    assert tuple(path.split(".")) in set(used(template))
