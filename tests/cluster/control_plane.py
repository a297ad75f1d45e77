"""A real control plane: etcd, API server, controller manager and scheduler, as processes.

They listen on the bridge, so that pods reach the API server, and no port is ever taken.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.cluster.api import PATIENCE_SECONDS, Api
from tests.cluster.network import Network
from tests.support.certificates import Authority, Identity

API_PORT: Final = 6443
_ETCD_PORT: Final = 2379
_PEER_PORT: Final = 2380
_LOOK_SECONDS: Final = 0.1
_AGAIN_SECONDS: Final = 1.0

NODE_GRACE_SECONDS: Final = 16
"""Without a lease for so long, a node's state is unknown. Kubernetes' own default is 50."""

AWAY_SECONDS: Final = 5
"""How long pods stay on such a node before others take their place. The default is 300."""

_NODES: Final = "system:nodes"
_ADMINISTRATORS: Final = "system:masters"
_MANAGER: Final = "system:kube-controller-manager"
_SCHEDULER: Final = "system:kube-scheduler"
_ISSUER: Final = "https://kubernetes.default.svc.cluster.local"


class Component:
    """A program that is started again if it ends by itself, as a node's supervisor would."""

    def __init__(self, argv: Sequence[str | Path], log: Path) -> None:
        self._argv = [str(one) for one in argv]
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._supervision: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Starts it."""
        self._process = await self._started()
        self._supervision = asyncio.create_task(self._supervise(self._process))

    async def kill(self) -> None:
        """Kills it, and does not start it again. Idempotent."""
        if self._supervision is None or self._process is None:
            return
        self._supervision.cancel()
        await asyncio.gather(self._supervision, return_exceptions=True)
        self._supervision = None
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def _supervise(self, process: asyncio.subprocess.Process) -> None:
        while True:
            await process.wait()
            await asyncio.sleep(_AGAIN_SECONDS)
            self._process = process = await self._started()

    async def _started(self) -> asyncio.subprocess.Process:
        """Starts the program. It dies when this process does."""
        tied = (sys.executable, "-m", "specfuse.localmesh.tied", str(os.getpid()))
        with self._log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *tied, *self._argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )


@dataclass(frozen=True, slots=True)
class Credentials:
    """How somebody reaches the API server, and whom the server takes them for."""

    url: str
    authority: Path
    identity: Identity

    def open(self) -> Api:
        """The API, as this user."""
        return Api(self.url, str(self.authority), self.identity)

    def write_kubeconfig(self, file: Path) -> Path:
        """What the programs of Kubernetes are told to be this user."""
        cluster = {"server": self.url, "certificate-authority": str(self.authority)}
        user = {
            "client-certificate": str(self.identity.certificate),
            "client-key": str(self.identity.key),
        }
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tests", "cluster": cluster}],
            "users": [{"name": "user", "user": user}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "user"}}],
            "current-context": "tests",
        }
        file.write_text(json.dumps(config))
        return file


class ControlPlane:
    """The programs, their certificates, and who may ask them."""

    def __init__(self, assets: Path, network: Network, folder: Path) -> None:
        self._assets = assets
        self._network = network
        self._folder = folder
        self._authority = Authority.create(folder, "authority")
        self._components: dict[str, Component] = {}
        self.admin = self.credentials("administrator", _ADMINISTRATORS)

    @property
    def url(self) -> str:
        """Where the API server is."""
        return f"https://{self._network.gateway}:{API_PORT}"

    @property
    def authority(self) -> Path:
        """The certificate that vouches for the API server."""
        return self._authority.certificate

    def credentials(self, user: str, group: str = "") -> Credentials:
        """How to reach the API server as this user."""
        return Credentials(
            self.url, self.authority, self._authority.issue(user, organization=group)
        )

    def credentials_of_node(self, name: str) -> Credentials:
        """How the kubelet of a node reaches the API server."""
        return self.credentials(f"system:node:{name}", _NODES)

    async def start(self) -> None:
        """Starts everything; returns when the API server is ready."""
        address = self._network.gateway
        self._server = self._authority.issue(
            "kube-apiserver",
            f"IP:{address},IP:{self._network.services[1]},DNS:kubernetes.default.svc",
        )
        self._accounts = self._authority.issue("service-accounts")
        await self._start("etcd", self._etcd_flags())
        await self.start_api_server()
        await asyncio.gather(
            self._start("kube-controller-manager", self._manager_flags()),
            self._start("kube-scheduler", self._scheduler_flags()),
        )

    async def stop(self) -> None:
        """Ends everything."""
        await asyncio.gather(*(one.kill() for one in self._components.values()))

    async def start_api_server(self) -> None:
        """Starts the API server; returns when it is ready."""
        await self._start("kube-apiserver", self._api_server_flags())
        api = self.admin.open()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not await api.answers("/readyz"):  # noqa: ASYNC110 (another process)
                    await asyncio.sleep(_LOOK_SECONDS)
        finally:
            await api.close()

    async def kill_api_server(self) -> None:
        """SIGKILL."""
        await self._components["kube-apiserver"].kill()

    async def _start(self, program: str, flags: Mapping[str, object]) -> None:
        argv = [self._assets / program, *(f"--{key}={value}" for key, value in flags.items())]
        self._components[program] = Component(argv, self._folder / f"{program}.log")
        await self._components[program].start()

    def _etcd_flags(self) -> dict[str, object]:
        address = self._network.gateway
        clients = f"http://{address}:{_ETCD_PORT}"
        peers = f"http://{address}:{_PEER_PORT}"
        return {
            "name": "etcd",
            "data-dir": self._folder / "etcd",
            "listen-client-urls": clients,
            "advertise-client-urls": clients,
            "listen-peer-urls": peers,
            "initial-advertise-peer-urls": peers,
            "initial-cluster": f"etcd={peers}",
            "unsafe-no-fsync": "true",
            "log-level": "warn",
        }

    def _api_server_flags(self) -> dict[str, object]:
        address = self._network.gateway
        return {
            "etcd-servers": f"http://{address}:{_ETCD_PORT}",
            "bind-address": address,
            "advertise-address": address,
            "secure-port": API_PORT,
            "tls-cert-file": self._server.certificate,
            "tls-private-key-file": self._server.key,
            "client-ca-file": self.authority,
            "service-account-issuer": _ISSUER,
            "service-account-key-file": self._accounts.certificate,
            "service-account-signing-key-file": self._accounts.key,
            "service-cluster-ip-range": self._network.services,
            "authorization-mode": "Node,RBAC",
            "enable-admission-plugins": "NodeRestriction",
            "default-not-ready-toleration-seconds": AWAY_SECONDS,
            "default-unreachable-toleration-seconds": AWAY_SECONDS,
        }

    def _manager_flags(self) -> dict[str, object]:
        return self._client_flags(_MANAGER) | {
            "service-account-private-key-file": self._accounts.key,
            "root-ca-file": self.authority,
            "use-service-account-credentials": "true",
            "flex-volume-plugin-dir": self._folder / "no-plugins",
            "node-monitor-period": "1s",
            "node-monitor-grace-period": f"{NODE_GRACE_SECONDS}s",
        }

    def _scheduler_flags(self) -> dict[str, object]:
        return self._client_flags(_SCHEDULER)

    def _client_flags(self, user: str) -> dict[str, object]:
        """What those are told that work by asking the API server."""
        kubeconfig = self.credentials(user).write_kubeconfig(self._folder / f"{user}.kubeconfig")
        return {
            "kubeconfig": kubeconfig,
            "authentication-kubeconfig": kubeconfig,
            "authorization-kubeconfig": kubeconfig,
            "bind-address": self._network.gateway,
            "kube-api-qps": 200,
            "kube-api-burst": 400,
        }
