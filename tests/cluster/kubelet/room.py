"""What the containers of a pod share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.api import Object
from tests.cluster.kubelet.sandbox import Sandbox
from tests.cluster.kubelet.volumes import Volumes

_GRACE_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Room:
    """A pod, and what its containers have of the node.

    `given` are variables that every container has. `changed` is to be called when there is
    something to report.
    """

    pod: Object
    folder: Path
    sandbox: Sandbox
    volumes: Volumes
    given: Mapping[str, str]
    changed: Callable[[], None]

    @property
    def hosts(self) -> Path:
        """The folder of the hosts file."""
        return made(self.folder / "hosts")

    @property
    def logs(self) -> Path:
        """Where containers' output is kept, also when the pod is gone."""
        metadata = self.pod["metadata"]
        name = f"{metadata['namespace']}.{metadata['name']}.{metadata['uid'][:8]}"
        return made(self.folder.parent.parent / "logs" / name)

    @property
    def grace_seconds(self) -> float:
        """How long containers may take to end."""
        grace = self.pod["spec"].get("terminationGracePeriodSeconds", _GRACE_SECONDS)
        return float(self.pod["metadata"].get("deletionGracePeriodSeconds", grace))


def made(folder: Path) -> Path:
    """The folder, which is there."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder
