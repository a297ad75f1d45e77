"""Objects for tests, as short as they can be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.cluster.api import Object

IDLE = ("-c", "import signal; signal.pause()")
"""Arguments of `python` that do nothing until they are ended."""


def namespace(name: str, **labels: str) -> Object:
    """A namespace."""
    metadata = {"name": name, "labels": labels}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def restricted_namespace(name: str) -> Object:
    """A namespace that takes no pods but those of Pod Security's profile `restricted`."""
    one = namespace(name)
    one["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = "restricted"
    return one


def config_map(name: str, **data: str) -> Object:
    """A ConfigMap with these keys; `_` in them stands for a dot."""
    keys = {key.replace("_", "."): value for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": keys}


def secret(name: str, **data: str) -> Object:
    """A Secret with these keys; `_` in them stands for a dot."""
    keys = {key.replace("_", "."): value for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": keys}


def container(*arguments: str, name: str = "main", image: str = "python", **more: Any) -> Object:
    """A container that runs an image's entry point with these arguments."""
    return {"name": name, "image": image, "args": list(arguments)} | more


def pod(
    name: str, *containers: Object, labels: Mapping[str, str] | None = None, **spec: Any
) -> Object:
    """A pod. Its containers end at once unless they are told otherwise."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {}},
        "spec": {"containers": list(containers), "terminationGracePeriodSeconds": 5} | spec,
    }


def deployment(name: str, replicas: int, template: Object) -> Object:
    """A Deployment of pods like this one, which have the label `app`."""
    labels = template["metadata"]["labels"] | {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": labels}, "spec": template["spec"]},
        },
    }


def service(name: str, ports: Sequence[int], *, headless: bool = False) -> Object:
    """A Service of the pods of the Deployment of this name."""
    spec: dict[str, Any] = {
        "selector": {"app": name},
        "ports": [{"name": f"port-{port}", "port": port} for port in ports],
    }
    if headless:
        spec["clusterIP"] = "None"
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}
