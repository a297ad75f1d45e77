"""A mesh with keys and TLS everywhere, whose keys and certificates change while it is asked."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from fuser_service.tenancy.key_file import KeyEntry, change
from fuser_service.tenancy.keys import digest_of, id_of, new_key
from specfuse.client import AsyncClient
from specfuse.errors import Unauthenticated
from specfuse.rpc.tls import ClientTls
from tests.cluster import manifests
from tests.cluster.api import Object
from tests.cluster.cluster import Cluster
from tests.cluster.counted import Report
from tests.cluster.judging import under_load
from tests.cluster.mesh import EVERYBODY, GRPC, MEMBERS, Mesh, values
from tests.cluster.release import Release
from tests.cluster.waiting import until
from tests.robustness import questions
from tests.support.certificates import Authority

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(900),
]

NAME = "secrets"
MODEL_GRPC = 50051
FUSER_HOST = f"{NAME}-specfuse-fuser.{NAME}.svc"


def secured() -> dict[str, Any]:
    """What makes a mesh one of keys and TLS, of one pod of each kind."""
    return {
        "modelDefaults": {"replicas": 1},
        "fuser": {
            "replicas": 1,
            "tenancy": {"anonymous": "refuse"},
            "keys": {"existingSecret": "keys"},
        },
        "tls": {
            "mesh": {
                "enabled": True,
                "existingSecrets": {
                    "fuser": "mesh-fuser",
                    "models": {name: f"mesh-{name}" for name in MEMBERS},
                },
            },
            "callers": {"enabled": True, "existingSecret": "callers"},
        },
        "tests": {"apiKey": {"existingSecret": "tests-key"}},
    }


class Secrets:
    """The Secrets of the mesh, made by an authority each for the mesh and for callers."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._api = cluster.api
        self._folder = folder
        self._file = folder / "keys.yaml"
        self._file.write_text("keys: []\n")
        self.mesh = Authority.create(folder, "mesh")
        self.callers = Authority.create(folder, "callers")
        self._issued = 0

    async def add_key(self) -> str:
        """A new key, in the Secret from now on."""
        key = new_key()
        entry = KeyEntry(id=id_of(key), sha256=digest_of(key), team="default")
        change(self._file, lambda entries: [*entries, entry])
        await self._apply_keys()
        return key

    async def revoke(self, key: str) -> None:
        """Takes a key out of the Secret."""
        change(self._file, lambda entries: [one for one in entries if one.id != id_of(key)])
        await self._apply_keys()

    async def issue_all(self) -> dict[str, int]:
        """New certificates for everybody: the serial number of each, by the Secret."""
        hosts = {f"mesh-{name}": f"{NAME}-specfuse-model-{name}.{NAME}.svc" for name in MEMBERS}
        hosts |= {"mesh-fuser": FUSER_HOST}
        serials = {name: await self._issue(name, self.mesh, host) for name, host in hosts.items()}
        return serials | {"callers": await self._issue("callers", self.callers, FUSER_HOST)}

    async def put(self, name: str, **data: str) -> None:
        """Has a Secret hold this."""
        await self._api.apply(manifests.secret(name, **data), NAME)

    async def _apply_keys(self) -> None:
        await self.put("keys", keys_yaml=self._file.read_text())

    async def _issue(self, name: str, authority: Authority, host: str) -> int:
        self._issued += 1
        identity = authority.issue(f"{name}.{self._issued}", f"DNS:{host}")
        pem = identity.certificate.read_text()
        ca = authority.certificate.read_text()
        tls = {"tls_crt": pem, "tls_key": identity.key.read_text(), "ca_crt": ca}
        body: Object = manifests.secret(name, **tls) | {"type": "kubernetes.io/tls"}
        await self._api.apply(body, NAME)
        return x509.load_pem_x509_certificate(pem.encode()).serial_number


async def test_keys_and_certificates_change_under_load(
    cluster: Cluster, report: Report, tmp_path: Path
) -> None:
    await cluster.create_namespace(manifests.restricted_namespace(NAME))
    secrets = Secrets(cluster, tmp_path)
    used, other = await secrets.add_key(), await secrets.add_key()
    await secrets.put("tests-key", key=used)
    old = await secrets.issue_all()
    tls = ClientTls(ca=secrets.callers.certificate, server_name=FUSER_HOST)
    open_client = partial(AsyncClient, tls=tls)
    mesh = Mesh(Release(cluster, NAME), partial(open_client, api_key=used))
    await mesh.release.install(values(), secured())
    await mesh.release.until_available()
    mesh.reference.update(await mesh.answers())
    assert await shows_only(mesh, old.values())
    assert await is_kept_out(mesh, partial(open_client, api_key=new_key()))
    assert "Succeeded" in await mesh.release.test()

    before = await mesh.lives()
    async with under_load("keys and certificates changed", mesh, report):
        newest = await secrets.add_key()
        await until(lambda: is_let_in(mesh, partial(open_client, api_key=newest)))
        await secrets.revoke(other)
        await until(lambda: is_kept_out(mesh, partial(open_client, api_key=other)))
        new = await secrets.issue_all()
        await until(lambda: shows_only(mesh, new.values()))
    assert report.rows[-1].degraded == 0
    assert await mesh.lives() == before
    own = ("keys", "tests-key", "callers", "mesh-fuser", *(f"mesh-{name}" for name in MEMBERS))
    await mesh.release.uninstall(leaving=[f"secrets/{name}" for name in own])


async def is_let_in(mesh: Mesh, open_client: Any) -> bool:
    """Whether whoever asks like this is answered, and not refused for who it is."""
    async with open_client(await mesh.addresses()) as client:
        try:
            await client.generate(questions.QUESTIONS[0], ensemble=EVERYBODY, timeout=30)
        except Unauthenticated:
            return False
    return True


async def is_kept_out(mesh: Mesh, open_client: Any) -> bool:
    return not await is_let_in(mesh, open_client)


async def shows_only(mesh: Mesh, serials: Iterable[int]) -> bool:
    """Whether everybody shows a certificate among these."""
    return set(await serials_of(mesh)) <= set(serials)


async def serials_of(mesh: Mesh) -> list[int]:
    """The serial numbers of the certificates that fusers and models show now."""
    shown = [await shown_at(pod, GRPC) for pod in await mesh.pods("fuser")]
    for part in MEMBERS:
        shown += [await shown_at(pod, MODEL_GRPC) for pod in await mesh.pods(part)]
    return shown


async def shown_at(pod: Object, port: int) -> int:
    address = (pod["status"]["podIP"], port)
    pem = await asyncio.to_thread(ssl.get_server_certificate, address, timeout=10)
    return x509.load_pem_x509_certificate(pem.encode()).serial_number
