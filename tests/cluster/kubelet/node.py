"""The node itself, as the API has it: what it is, and that it is there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

from tests.cluster.api import Api, ApiError, Object, Unreachable
from tests.cluster.kubelet.configuration import Configuration
from tests.cluster.kubelet.status import now

_EVERY_SECONDS: Final = 5.0
_AGAIN_SECONDS: Final = 0.5
_EXISTS: Final = 409
_USUAL: Final = {"cpu": "4", "memory": "16Gi", "pods": "110", "ephemeral-storage": "100Gi"}
_VERSION: Final = "v1.36.0"
_PRESSURES: Final = ("MemoryPressure", "DiskPressure", "PIDPressure")

_logger = logging.getLogger(__name__)


async def register(api: Api, configuration: Configuration) -> Object:
    """The node, once the API has it."""
    while True:
        with suppress(ApiError, Unreachable):
            return await _registered(api, configuration)
        await asyncio.sleep(_AGAIN_SECONDS)


async def keep_reporting(api: Api, configuration: Configuration) -> None:
    """Says again and again that the node is ready, until it is cancelled."""
    since = now()
    while True:
        try:
            status = {"status": _status(configuration, since)}
            await api.report("nodes", configuration.name, status)
        except (ApiError, Unreachable) as error:
            _logger.info("the node's status cannot be reported: %s", error)
            await asyncio.sleep(_AGAIN_SECONDS)
        else:
            await asyncio.sleep(_EVERY_SECONDS)


async def _registered(api: Api, configuration: Configuration) -> Object:
    node: Object = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": configuration.name,
            "labels": {
                "kubernetes.io/hostname": configuration.name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                **configuration.labels,
            },
        },
        "spec": {"taints": [dict(one) for one in configuration.taints]},
    }
    try:
        return await api.create("nodes", node)
    except ApiError as error:
        if error.code != _EXISTS:
            raise
        return await api.get("nodes", configuration.name)


def _status(configuration: Configuration, since: str) -> dict[str, Any]:
    resources = _USUAL | dict(configuration.capacity)
    return {
        "capacity": resources,
        "allocatable": resources,
        "conditions": list(_conditions(since)),
        "addresses": [
            {"type": "InternalIP", "address": configuration.gateway},
            {"type": "Hostname", "address": configuration.name},
        ],
        "nodeInfo": {
            "architecture": "amd64",
            "bootID": "",
            "containerRuntimeVersion": "process://1",
            "kernelVersion": "",
            "kubeProxyVersion": "",
            "kubeletVersion": _VERSION,
            "machineID": configuration.name,
            "operatingSystem": "linux",
            "osImage": "",
            "systemUUID": configuration.name,
        },
    }


def _conditions(since: str) -> Iterator[dict[str, str]]:
    for kind in (*_PRESSURES, "Ready"):
        yield {
            "type": kind,
            "status": str(kind == "Ready"),
            "reason": "KubeletReady" if kind == "Ready" else f"KubeletHasNo{kind}",
            "message": "",
            "lastHeartbeatTime": now(),
            "lastTransitionTime": since,
        }
