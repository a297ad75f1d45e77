"""What there is to see of objects, read off their status. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.cluster.api import Object, Objects


def phase_of(pod: Object | None) -> str:
    """The phase of a pod; empty if there is no pod."""
    return str((pod or {}).get("status", {}).get("phase", ""))


def condition_of(one: Object | None, kind: str) -> str:
    """`True`, `False` or `Unknown`; empty if there is no such condition, or no object."""
    conditions = (one or {}).get("status", {}).get("conditions", ())
    return next((str(own["status"]) for own in conditions if own["type"] == kind), "")


def is_true(one: Object | None, kind: str) -> bool:
    """Whether there is the object, and it has this condition."""
    return condition_of(one, kind) == "True"


def takes_pods(node: Object | None) -> bool:
    """Whether a node is ready, and the scheduler has heard of it."""
    taints = (node or {}).get("spec", {}).get("taints", ())
    troubled = any(one["key"].startswith("node.kubernetes.io/") for one in taints)
    return is_true(node, "Ready") and not troubled


def container_of(pod: Object | None, name: str = "main") -> dict[str, Any]:
    """The status of a pod's container; empty if there is none yet."""
    status = (pod or {}).get("status", {})
    all_ = (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ()))
    return next((one for one in all_ if one["name"] == name), {})


def endpoints_of(slices: Objects) -> Iterator[Object]:
    """All endpoints in these slices."""
    for one in slices.values():
        yield from one.get("endpoints") or ()


def ready_addresses_of(slices: Objects) -> list[str]:
    """The addresses of all endpoints that are ready, sorted."""
    return sorted(
        address
        for one in endpoints_of(slices)
        if one.get("conditions", {}).get("ready", True)
        for address in one["addresses"]
    )


def is_complete(deployment: Object) -> bool:
    """Whether a Deployment has just the pods that it should have, of its latest kind, and ready."""
    wanted, status = deployment["spec"]["replicas"], deployment.get("status", {})
    seen = status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
    counts = ("replicas", "updatedReplicas", "availableReplicas")
    return seen and all(status.get(count, 0) == wanted for count in counts)
