"""What is reported of a pod, by what became of its containers. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from tests.cluster.api import Object

PENDING: Final = "Pending"
RUNNING: Final = "Running"
SUCCEEDED: Final = "Succeeded"
FAILED: Final = "Failed"


@dataclass(slots=True)
class Record:
    """What became of a container so far.

    `state` and `last_state` are as in a container's status. `over`: it is not started any more.
    """

    name: str
    image: str
    sidecar: bool = False
    state: Object = field(default_factory=lambda: waiting("ContainerCreating"))
    last_state: Object = field(default_factory=dict)
    restarts: int = 0
    id: str = ""
    started: bool = False
    ready: bool = False
    over: bool = False

    @property
    def exit_code(self) -> int | None:
        """How it ended; None if it has not."""
        terminated = self.state.get("terminated")
        return None if terminated is None else terminated["exitCode"]

    @property
    def done_well(self) -> bool:
        """Whether what comes after it may begin, if it comes before others."""
        return self.started if self.sidecar else self.over and self.exit_code == 0


def waiting(reason: str, message: str = "") -> Object:
    """The state of a container that is to run."""
    return {"waiting": {"reason": reason} | ({"message": message} if message else {})}


def now() -> str:
    """The time, as Kubernetes writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def phase_of(first: Sequence[Record], main: Sequence[Record]) -> str:
    """The phase of a pod whose containers, those that come first and the others, fared so.

    It is not over before its sidecars are.
    """
    if any(one.over and not one.sidecar and one.exit_code != 0 for one in first):
        return FAILED
    if all(one.over for one in (*first, *main)):
        return SUCCEEDED if all(one.exit_code == 0 for one in main) else FAILED
    begun = all(one.done_well for one in first) or any(one.id for one in main)
    return RUNNING if begun and any(one.id for one in main) else PENDING


def status_of(
    first: Sequence[Record],
    main: Sequence[Record],
    old: Object,
    addresses: Mapping[str, str],
    trouble: str = "",
) -> Object:
    """The status of a pod. `old` is the one before; `addresses` are the node's and the pod's."""
    phase = phase_of(first, main)
    ready = [one for one in (*first, *main) if one.sidecar or one in main]
    truths = {
        "PodReadyToStartContainers": "pod" in addresses,
        "Initialized": all(one.done_well for one in first),
        "ContainersReady": all(one.ready for one in ready),
        "Ready": all(one.ready for one in ready),
    }
    status: Object = {
        "phase": phase,
        "conditions": [_condition(kind, truth, old) for kind, truth in truths.items()],
        "hostIP": addresses["node"],
        "hostIPs": [{"ip": addresses["node"]}],
        "startTime": old.get("startTime") or now(),
        "initContainerStatuses": [_container_status(one) for one in first],
        "containerStatuses": [_container_status(one) for one in main],
    }
    if "pod" in addresses:
        status |= {"podIP": addresses["pod"], "podIPs": [{"ip": addresses["pod"]}]}
    return status | ({"message": trouble} if trouble else {})


def _condition(kind: str, truth: bool, old: Object) -> Object:
    status = str(truth)
    before = next((one for one in old.get("conditions", ()) if one["type"] == kind), {})
    since = before.get("lastTransitionTime") if before.get("status") == status else None
    return {"type": kind, "status": status, "lastTransitionTime": since or now()}


def _container_status(one: Record) -> dict[str, Any]:
    return {
        "name": one.name,
        "image": one.image,
        "imageID": one.image,
        "containerID": one.id,
        "restartCount": one.restarts,
        "started": one.started,
        "ready": one.ready,
        "state": one.state,
        "lastState": one.last_state,
    }
