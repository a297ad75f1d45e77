"""Commands in the root of an image that buildah has built, as a cluster would run them.

The root is read-only, and so is what is mounted at /etc/specfuse; /tmp is a tmpfs. The user is the
image's, without capabilities and without a way to get any. What is not as in a cluster: the network
and the processes are those of this machine.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MOUNTED = """
root=$1 settings=$2; shift 2
mount --bind "$root" "$root"
mount -o remount,ro,bind "$root"
mount -t tmpfs tmpfs "$root/tmp"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --bind "$settings" "$root/etc/specfuse"
exec "$@"
"""
"""Mounts what the command needs, in a mount namespace of its own, and becomes the command."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image, where its root is mounted."""

    root: Path
    config: dict[str, Any]

    def runs(self, settings: Path) -> list[str]:
        """A prefix that runs a command in the image. `settings` is what /etc/specfuse has."""
        user, group = self.config["User"].split(":")
        return [
            *("unshare", "--mount", "--", "bash", "-ec", _MOUNTED, "bash"),
            *(str(self.root), str(settings), "chroot", str(self.root)),
            *("/usr/bin/env", "-i", f"--chdir={self.config['WorkingDir']}", *self.config["Env"]),
            *("setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups"),
            *("--no-new-privs", "--inh-caps=-all", "--bounding-set=-all", "--"),
        ]


@contextmanager
def mounted(name: str) -> Iterator[Image]:
    """An image of buildah's, until the end."""
    container = _buildah("from", "--pull-never", name)
    try:
        inspected = json.loads(_buildah("inspect", container))
        yield Image(Path(_buildah("mount", container)), inspected["OCIv1"]["config"])
    finally:
        _buildah("rm", container)


def missing_to_build(base: str) -> str:
    """Why an image cannot be built and run here; empty if it can."""
    if os.geteuid() != 0:
        return "only root can run what is in an image here"
    try:
        _buildah("inspect", "--type", "image", base)
    except FileNotFoundError:
        return "there is no buildah"
    except subprocess.CalledProcessError:
        return f"buildah has no {base} (tests/images/make_base.sh makes it)"
    return ""


def _buildah(*arguments: str) -> str:
    """What buildah says."""
    done = subprocess.run(
        ["buildah", *arguments], capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout.strip()
