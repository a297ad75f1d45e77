"""What a node is told: one JSON file, one frozen object."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.cluster.api import Api
from tests.support.certificates import Identity


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything a node is told.

    `pods` are the addresses of its pods, on `bridge`, where `gateway` is the machine and the API
    server. `kubelet` and `proxy` are the files of who it is (certificate, key) when it asks for its
    pods, and for Services. `folder` is its own, for volumes and logs.
    """

    name: str
    folder: str
    url: str
    authority: str
    kubelet: tuple[str, str]
    proxy: tuple[str, str]
    bridge: str
    gateway: str
    pods: str
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Mapping[str, str], ...] = ()
    capacity: Mapping[str, str] = field(default_factory=dict)

    def write(self, file: Path) -> Path:
        """Writes it to a file, in a folder that is made."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(asdict(self)))
        return file

    @classmethod
    def read(cls, file: Path) -> Self:
        """What was written."""
        read: dict[str, Any] = json.loads(file.read_text())
        return cls(**read)

    def open_api(self, user: tuple[str, str]) -> Api:
        """The API, as that user."""
        certificate, key = user
        return Api(self.url, self.authority, Identity(Path(certificate), Path(key)))
