"""What an image is here: a command of this checkout, and the folders that it needs to run.

A container's root is made of the machine's programs and libraries, the Python that runs this, its
environment, and the checkout. Nothing of it can be written to.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from specfuse.demo.experts import MODELS_DIRECTORY
from tests.support.repository import REPOSITORY

_USER: Final = 65532
"""Who runs in an image that says nothing else; not root."""

_SYSTEM: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib64")
_ETC: Final = (
    "alternatives",
    "ca-certificates",
    "group",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "nsswitch.conf",
    "passwd",
    "ssl",
)


@dataclass(frozen=True, slots=True)
class Image:
    """What runs unless a pod says otherwise, as whom, and with which environment."""

    entrypoint: tuple[str, ...] = ()
    user: int = _USER
    environment: Mapping[str, str] = field(default_factory=dict)
    folders: Mapping[str, Path] = field(default_factory=dict)
    """What it has beside what all have: folders of this machine, by where they are in it."""


_ENVIRONMENT: Final = {
    "PATH": os.pathsep.join((str(Path(sys.prefix) / "bin"), "/usr/local/bin", "/usr/bin", "/bin")),
    "PYTHONPATH": str(REPOSITORY),
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
}

_EXPERTS: Final = {"/opt/specfuse/experts": MODELS_DIRECTORY}
"""The shipped experts, where the image of the models has them."""

_IMAGES: Final = {
    "specfuse-fuser": Image(("specfuse",), environment=_ENVIRONMENT),
    "specfuse-model": Image(("specfuse",), environment=_ENVIRONMENT, folders=_EXPERTS),
    "without-model": Image(
        ("python", "-m", "tests.cluster.kubelet.without_model"), environment=_ENVIRONMENT
    ),
    "python": Image(("python",), environment=_ENVIRONMENT),
    "root-python": Image(("python",), user=0, environment=_ENVIRONMENT),
}
"""By the last part of the name, without tag and digest."""


def image_of(reference: str) -> Image | None:
    """The image of this name; None if it cannot be had."""
    last = reference.partition("@")[0].rpartition("/")[2]
    return _IMAGES.get(last.partition(":")[0])


def folders_of(image: Image) -> dict[str, Path]:
    """Folders and files of this machine that are in the image, by where they are in it."""
    found = {one: Path(one) for one in _SYSTEM if Path(one).exists()}
    found |= {f"/etc/{one}": Path("/etc", one) for one in _ETC if Path("/etc", one).exists()}
    places = {Path(one).resolve() for one in (sys.prefix, sys.base_prefix, REPOSITORY)}
    for place in sorted(places):
        if not place.is_relative_to("/usr") and not places & set(place.parents):
            found[str(place)] = place
    return found | dict(image.folders)
