"""TLS and mutual TLS over real connections, and files that are not what they should be."""

from __future__ import annotations

import asyncio
import subprocess
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from specfuse.errors import Misconfigured, Unavailable
from specfuse.rpc.channels import open_blocking_channel, open_channel
from specfuse.rpc.errors import from_rpc_error
from specfuse.rpc.tls import ClientTls, TlsFiles
from specfuse.v1 import fuser_service_pb2 as pb
from specfuse.v1.fuser_service_pb2_grpc import FuserServiceStub
from tests.support.certificates import OPENSSL, Authority, Identity
from tests.support.fuser_door import ScriptedFuser, open_door

pytestmark = pytest.mark.skipif(OPENSSL is None, reason="needs the openssl program")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("stranger"), "stranger")


@pytest.fixture(scope="module")
def server_identity(authority: Authority) -> Identity:
    return authority.issue("server")


@pytest.fixture(scope="module")
def server_tls(server_identity: Identity) -> TlsFiles:
    return TlsFiles(server_identity.certificate, server_identity.key)


@pytest.fixture(scope="module")
def mutual_tls(server_tls: TlsFiles, authority: Authority) -> TlsFiles:
    return replace(server_tls, client_ca=authority.certificate)


async def call(address: str, tls: ClientTls | None) -> None:
    async with open_channel(address, tls) as channel:
        await FuserServiceStub(channel).ListEnsembles(pb.ListEnsemblesRequest(), timeout=10)


async def refusal(address: str, tls: ClientTls | None) -> Unavailable:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(address, tls)
    error = from_rpc_error(caught.value, address)
    assert isinstance(error, Unavailable)
    return error


async def test_tls(server_tls: TlsFiles, authority: Authority) -> None:
    async with open_door(ScriptedFuser(), tls=server_tls) as server:
        await call(server.address, ClientTls(ca=authority.certificate))


async def test_tls_for_blocking_callers(server_tls: TlsFiles, authority: Authority) -> None:
    def blocking_call(address: str) -> None:
        with open_blocking_channel(address, ClientTls(ca=authority.certificate)) as channel:
            FuserServiceStub(channel).ListEnsembles(pb.ListEnsemblesRequest(), timeout=10)

    async with open_door(ScriptedFuser(), tls=server_tls) as server:
        await asyncio.to_thread(blocking_call, server.address)


async def test_callers_without_tls_and_of_other_trust_are_refused(
    server_tls: TlsFiles, stranger: Authority
) -> None:
    async with open_door(ScriptedFuser(), tls=server_tls) as server:
        error = await refusal(server.address, None)
        assert server.address in error.message
        assert "TLS" in error.message
        await refusal(server.address, ClientTls(ca=stranger.certificate))


async def test_tls_caller_of_a_plain_server_is_refused(authority: Authority) -> None:
    async with open_door(ScriptedFuser()) as server:
        await refusal(server.address, ClientTls(ca=authority.certificate))


async def test_mutual_tls(mutual_tls: TlsFiles, authority: Authority) -> None:
    me = authority.issue("caller")
    async with open_door(ScriptedFuser(), tls=mutual_tls) as server:
        await call(server.address, ClientTls(authority.certificate, me.certificate, me.key))


async def test_mutual_tls_refuses_callers_it_does_not_know(
    mutual_tls: TlsFiles, authority: Authority, stranger: Authority
) -> None:
    other = stranger.issue("caller")
    async with open_door(ScriptedFuser(), tls=mutual_tls) as server:
        await refusal(server.address, ClientTls(authority.certificate))
        await refusal(
            server.address, ClientTls(authority.certificate, other.certificate, other.key)
        )


async def test_server_name_stands_in_for_the_host_called(authority: Authority) -> None:
    service = authority.issue("by-name", "DNS:fuser.specfuse.svc")
    tls = TlsFiles(service.certificate, service.key)
    trust = ClientTls(authority.certificate)
    async with open_door(ScriptedFuser(), tls=tls) as server:
        await refusal(server.address, trust)
        await call(server.address, replace(trust, server_name="fuser.specfuse.svc"))


def test_missing_file_is_named(server_identity: Identity, tmp_path: Path) -> None:
    missing = tmp_path / "no.pem"
    for wrong in (
        TlsFiles(missing, server_identity.key),
        TlsFiles(server_identity.certificate, missing),
        TlsFiles(server_identity.certificate, server_identity.key, client_ca=missing),
        ClientTls(ca=missing),
        ClientTls(certificate=missing, key=server_identity.key),
    ):
        with pytest.raises(Misconfigured, match=r"no\.pem: cannot be read: No such file"):
            wrong.credentials()


def test_file_that_is_not_what_it_should_be_is_named(
    server_identity: Identity, stranger: Authority, tmp_path: Path
) -> None:
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("not a certificate")
    for wrong, named in (
        (TlsFiles(garbage, server_identity.key), "garbage.pem"),
        (TlsFiles(server_identity.certificate, garbage), "garbage.pem"),
        (TlsFiles(server_identity.certificate, stranger.key), "stranger.key"),
        (ClientTls(ca=garbage), "garbage.pem"),
        (ClientTls(ca=server_identity.key), "server.key"),
    ):
        with pytest.raises(Misconfigured, match="PEM certificate") as caught:
            wrong.credentials()
        assert named in caught.value.message


def test_directory_for_a_file_is_named(server_identity: Identity, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="cannot be read: Is a directory"):
        TlsFiles(tmp_path, server_identity.key).credentials()


def test_encrypted_key_is_an_error_and_not_a_prompt(
    server_identity: Identity, tmp_path: Path
) -> None:
    locked = tmp_path / "locked.key"
    subprocess.run(
        f"openssl ec -aes256 -passout pass:secret -in {server_identity.key} -out {locked}".split(),
        check=True,
        capture_output=True,
    )
    with pytest.raises(Misconfigured, match=r"locked\.key.*unencrypted"):
        TlsFiles(server_identity.certificate, locked).credentials()


def test_certificate_and_key_come_together(server_identity: Identity) -> None:
    with pytest.raises(Misconfigured, match=r"tls\.key: missing"):
        ClientTls(certificate=server_identity.certificate).credentials()
    with pytest.raises(Misconfigured, match=r"tls\.certificate: missing"):
        ClientTls(key=server_identity.key).credentials()


async def test_wrong_files_keep_a_server_from_starting(tmp_path: Path) -> None:
    tls = TlsFiles(tmp_path / "server.pem", tmp_path / "server.key")
    with pytest.raises(Misconfigured, match=r"server\.key: cannot be read"):
        async with open_door(ScriptedFuser(), tls=tls):
            pytest.fail("started")
