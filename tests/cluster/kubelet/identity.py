"""As whom a container runs, and what it may do. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from tests.cluster.kubelet.images import Image


class Refused(Exception):
    """A container cannot be run as it is asked for. `reason` is the word for it in its state."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Identity:
    """Ids of a user, its group and further groups, and what is taken from it."""

    user: int
    group: int
    groups: tuple[int, ...]
    no_capabilities: bool
    no_new_privileges: bool
    read_only_root: bool

    @classmethod
    def of(cls, container: Mapping[str, Any], pod: Mapping[str, Any], image: Image) -> Self:
        """Who a container's process is, by what the container says, the pod, and the image.

        Raises:
            Refused: it must not be root, and would be.
        """
        shared = pod["spec"].get("securityContext") or {}
        context = shared | (container.get("securityContext") or {})
        user = context.get("runAsUser", image.user)
        if context.get("runAsNonRoot") and user == 0:
            told = "container has runAsNonRoot and image will run as root"
            raise Refused("CreateContainerConfigError", told)
        files = (shared["fsGroup"],) if "fsGroup" in shared else ()
        return cls(
            user=user,
            group=context.get("runAsGroup", image.user),
            groups=(*shared.get("supplementalGroups", ()), *files),
            no_capabilities="ALL" in (context.get("capabilities") or {}).get("drop", ()),
            no_new_privileges=context.get("allowPrivilegeEscalation") is False,
            read_only_root=bool(context.get("readOnlyRootFilesystem")),
        )
