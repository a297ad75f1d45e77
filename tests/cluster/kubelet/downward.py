"""What a pod can be told of itself: the downward API. Pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from tests.cluster.api import Object

_INDEXED: Final = re.compile(r"metadata\.(labels|annotations)\['(.+)'\]")
_UNITS: Final = {
    "m": Decimal("0.001"),
    "k": Decimal(1000),
    "M": Decimal(1000) ** 2,
    "G": Decimal(1000) ** 3,
    **{f"{one}i": Decimal(1024) ** power for power, one in enumerate("KMGT", 1)},
}
_QUANTITY: Final = re.compile(r"([0-9.]+)([a-zA-Z]*)")


def field_of(pod: Object, path: str, address: str) -> str:
    """The field of a pod at this path. `address` is the pod's own, which its status may not say."""
    metadata, spec = pod["metadata"], pod["spec"]
    if found := _INDEXED.fullmatch(path):
        return str(metadata.get(found[1], {}).get(found[2], ""))
    if path in ("metadata.labels", "metadata.annotations"):
        pairs = metadata.get(path.partition(".")[2], {})
        return "\n".join(f"{key}={json.dumps(pairs[key])}" for key in sorted(pairs))
    known = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata["uid"],
        "spec.nodeName": spec.get("nodeName", ""),
        "spec.serviceAccountName": spec.get("serviceAccountName", ""),
        "status.podIP": address,
        "status.podIPs": address,
        "status.hostIP": pod.get("status", {}).get("hostIP", ""),
        "status.hostIPs": pod.get("status", {}).get("hostIP", ""),
    }
    return str(known[path])


def resource_of(pod: Object, wanted: Mapping[str, Any], container: str = "") -> str:
    """A request or a limit of a container, in the units of `divisor`, rounded up."""
    name = wanted.get("containerName") or container
    kind, _, resource = wanted["resource"].partition(".")
    every = (*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"])
    resources = next(one for one in every if one["name"] == name).get("resources", {})
    quantity = resources.get(kind, {}).get(resource, "0")
    divisor = wanted.get("divisor", "0")
    by = Decimal(1) if amount_of(divisor) == 0 else amount_of(divisor)
    return str(math.ceil(amount_of(quantity) / by))


def amount_of(quantity: str) -> Decimal:
    """The number that a quantity such as `500m` or `2Gi` stands for."""
    found = _QUANTITY.fullmatch(str(quantity))
    assert found is not None, f"{quantity} is no quantity"
    return Decimal(found[1]) * _UNITS.get(found[2], Decimal(1))
