"""A release of the chart on a cluster, by the real Helm."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from deploy.helm.generate import helm
from tests.cluster.api import PATIENCE_SECONDS
from tests.cluster.cluster import Cluster
from tests.cluster.observing import is_complete
from tests.support.repository import REPOSITORY

CHART: Final = REPOSITORY / "deploy" / "helm" / "specfuse"
INSTANCE: Final = "app.kubernetes.io/instance"
_LOOK_SECONDS: Final = 0.5
_OF_EVERY_NAMESPACE: Final = {"configmaps/kube-root-ca.crt", "serviceaccounts/default"}


@dataclass(frozen=True, slots=True)
class Release:
    """A release in a namespace of its own, which has its name."""

    cluster: Cluster
    name: str

    async def install(self, *values: Path | Mapping[str, Any]) -> str:
        """Installs it; what Helm says, with the notes."""
        return await self._helm("install", self.name, str(CHART), *self._values(values))

    async def upgrade(self, *values: Path | Mapping[str, Any]) -> str:
        """Gives it other values; what Helm says."""
        return await self._helm("upgrade", self.name, str(CHART), *self._values(values))

    async def rollback(self) -> None:
        """Goes back to what it was before."""
        await self._helm("rollback", self.name)

    async def test(self) -> str:
        """Runs its tests; what Helm says.

        Raises:
            AssertionError: they failed.
        """
        return await self._helm("test", self.name)

    async def uninstall(self, *, leaving: Collection[str] = ()) -> None:
        """Removes it; returns when nothing is left of it in its namespace but these."""
        await self._helm("uninstall", self.name)
        expected = _OF_EVERY_NAMESPACE | set(leaving)
        left: set[str] = set()
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_SECONDS):
                while (left := await self._everything()) != expected:  # noqa: ASYNC110 (of a server)
                    await asyncio.sleep(_LOOK_SECONDS)
        assert left == expected, sorted(left ^ expected)

    async def until_available(self) -> None:
        """Returns when every Deployment of it has all that it should have, and nothing else."""
        await self.cluster.api.until(
            "deployments",
            lambda there: bool(there) and all(map(is_complete, there.values())),
            self.name,
            labelSelector=f"{INSTANCE}={self.name}",
        )

    async def addresses(self, port: int) -> list[str]:
        """Where callers ask the fuser: at the address of its Service."""
        services = await self.cluster.api.list("services", self.name)
        fusers = (services[key] for key in services if key.endswith("-fuser"))
        return [f"{one['spec']['clusterIP']}:{port}" for one in fusers]

    async def _everything(self) -> set[str]:
        """All that there is in the namespace, but what tells what happened there."""
        found = await self.cluster.api.everything(self.name)
        return {one for one in found if not one.startswith("events/")}

    def _values(self, values: tuple[Path | Mapping[str, Any], ...]) -> list[str]:
        """The flags for values, the later ones over the earlier."""
        files = []
        for number, one in enumerate(values):
            file = one
            if not isinstance(file, Path):
                file = self.cluster.folder / f"{self.name}.values.{number}.yaml"
                file.write_text(yaml.safe_dump(dict(one)))
            files += ["--values", str(file)]
        return files

    async def _helm(self, *arguments: str) -> str:
        executable = helm.executable()
        assert executable is not None
        process = await asyncio.create_subprocess_exec(
            *(executable, *arguments, "--namespace", self.name),
            *("--kubeconfig", str(self.cluster.kubeconfig)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.cluster.folder)},
        )
        async with asyncio.timeout(PATIENCE_SECONDS):
            said, complained = await process.communicate()
        assert process.returncode == 0, f"helm {arguments}: {said.decode()}{complained.decode()}"
        return said.decode()
