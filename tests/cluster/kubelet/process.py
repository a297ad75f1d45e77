"""A run of a container: its process, in the pod's namespaces and a root of its own."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

from tests.cluster.api import Object
from tests.cluster.kubelet import launch
from tests.cluster.kubelet.environment import command_line_of, environment_of
from tests.cluster.kubelet.identity import Identity, Refused
from tests.cluster.kubelet.images import folders_of, image_of
from tests.cluster.kubelet.room import Room, made

_NODE: Final = "/run/node"
"""Where a container has what the node says to it."""

_FIXED: Final = {"configMap", "secret", "projected", "downwardAPI"}
"""Kinds of volumes that containers cannot write to."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process in a container."""

    identity: Identity
    environment: Mapping[str, str]
    _process: asyncio.subprocess.Process

    @classmethod
    async def start(cls, spec: Object, room: Room, run: int) -> Self:
        """Starts a container for the given time; its output is in a file of its own.

        Raises:
            Refused, Missing: it cannot be started as it is.
        """
        image = image_of(spec["image"])
        if image is None:
            raise Refused("ImagePullBackOff", f"there is no image {spec['image']}")
        identity = Identity.of(spec, room.pod, image)
        given = {**room.given, **image.environment}
        environment = environment_of(spec, room.pod, room.volumes.sources, given)
        argv = command_line_of(spec, image, environment)
        what = {
            "argv": argv,
            "environment": environment,
            "folders": {target: str(source) for target, source in folders_of(image).items()},
        }
        file = _write(spec, room, asdict(identity) | what)
        log = room.logs / f"{spec['name']}.{run}.log"
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", launch.__file__, file),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return cls(identity, environment, process)

    @property
    def pid(self) -> int:
        """Its id."""
        return self._process.pid

    async def ended(self) -> int:
        """Its exit code, once it has ended: 128 and the signal's number, if a signal ended it."""
        code = await self._process.wait()
        self.kill()  # what it leaves behind
        return code if code >= 0 else 128 - code

    def terminate(self) -> None:
        """Asks it to end."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it, and all that it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    async def execute(self, command: list[str]) -> bool:
        """Runs a command where it runs, as who it is; whether that ended with 0."""
        as_whom = (f"--setuid={self.identity.user}", f"--setgid={self.identity.group}")
        where = ("--mount", "--net", "--uts", "--ipc", "--root", "--wd")
        process = await asyncio.create_subprocess_exec(
            *(shutil.which("nsenter") or "nsenter", "--target", str(self.pid)),
            *(*where, *as_whom, "--", *command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self.environment,
        )
        try:
            return await process.wait() == 0
        finally:
            with suppress(ProcessLookupError):
                process.kill()


def _write(spec: Object, room: Room, what: Mapping[str, Any]) -> Path:
    """Writes what the launcher is told, see `launch.py`."""
    root = made(room.folder / "roots" / spec["name"])
    where = {
        "root": str(root),
        "namespaces": list(room.sandbox.namespaces),
        "hosts": f"{_NODE}/hosts",
        "mounts": list(_mounts(spec, room)),
        "directory": spec.get("workingDir", "/"),
    }
    file = root.with_suffix(".json")
    file.write_text(json.dumps({**what, **where}))
    return file


def _mounts(spec: Object, room: Room) -> Iterator[Mapping[str, Any]]:
    """What is mounted where, a place before what is within it."""
    yield {"source": str(room.hosts), "target": _NODE, "read_only": True}
    volumes = room.pod["spec"].get("volumes", ())
    fixed = {one["name"] for one in volumes if one.keys() & _FIXED}
    mounts = spec.get("volumeMounts", ())
    for mount in sorted(mounts, key=lambda one: Path(one["mountPath"]).parts):
        source = room.volumes.path_of(mount["name"]) / mount.get("subPath", "")
        if "subPath" in mount and mount["name"] not in fixed:
            made(source)
        yield {
            "source": str(source),
            "target": mount["mountPath"].rstrip("/"),
            "read_only": bool(mount.get("readOnly")) or mount["name"] in fixed,
        }
