"""The node's lease: a sign of life that costs the API server little."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import Final

from tests.cluster.api import Api, ApiError, Object, Unreachable

_NAMESPACE: Final = "kube-node-lease"
_RENEWED_SECONDS: Final = 2.0
_LASTS_SECONDS: Final = 40
_NOT_FOUND: Final = 404

_logger = logging.getLogger(__name__)


async def keep_renewing(api: Api, node: Object) -> None:
    """Renews the node's lease until it is cancelled."""
    while True:
        try:
            await _renew(api, node)
        except (ApiError, Unreachable) as error:
            _logger.info("the lease cannot be renewed: %s", error)
        await asyncio.sleep(_RENEWED_SECONDS)


async def _renew(api: Api, node: Object) -> None:
    name = node["metadata"]["name"]
    spec = {
        "holderIdentity": name,
        "leaseDurationSeconds": _LASTS_SECONDS,
        "renewTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    }
    try:
        await api.merge("leases", name, {"spec": spec}, _NAMESPACE)
    except ApiError as error:
        if error.code != _NOT_FOUND:
            raise
        owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": node["metadata"]["uid"]}
        metadata = {"name": name, "ownerReferences": [owner]}
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
        await api.create("leases", lease | {"metadata": metadata, "spec": spec}, _NAMESPACE)
