"""Certificates that are renewed while a server serves, and those that nobody renewed."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import grpc
import pytest
from prometheus_client import CollectorRegistry, Gauge

from model_service.backends.scripted.settings import Line
from specfuse.config.types import ServerTls
from specfuse.errors import Misconfigured
from specfuse.rpc.channels import open_channel
from specfuse.rpc.server import RpcServer
from specfuse.rpc.tls import ClientTls, RenewableTls, TlsFiles
from specfuse.serving.certificate import Certificates, Identity, ServedCertificate
from specfuse.serving.files import FollowedFiles, following
from specfuse.v1 import fuser_service_pb2 as pb
from specfuse.v1.fuser_service_pb2_grpc import FuserServiceStub
from tests.support.certificates import OPENSSL, Authority, Mounted
from tests.support.fuser_door import ScriptedFuser, open_door, segment
from tests.support.fuser_mesh import Nodes, open_fuser

pytestmark = pytest.mark.skipif(OPENSSL is None, reason="needs the openssl program")

PATIENCE_SECONDS = 20.0
EXPIRY = "specfuse_tls_certificate_expiry_timestamp_seconds"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("old"), "old")


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("new"), "new")


@pytest.fixture
def mounted(tmp_path: Path, old: Authority) -> Mounted:
    """A folder of certificates, the old authority's at first."""
    mounted = Mounted(tmp_path / "mounted")
    mounted.swap(old.issue("server"), old)
    return mounted


@dataclass
class Served:
    """A server whose certificates are in a folder, and the files that it follows."""

    server: RpcServer
    fuser: ScriptedFuser
    files: FollowedFiles
    registry: CollectorRegistry

    async def refuses(self, tls: ClientTls) -> bool:
        """Whether no new connection comes about under this trust."""
        async with open_channel(self.server.address, tls) as channel:
            try:
                await FuserServiceStub(channel).ListEnsembles(pb.ListEnsemblesRequest(), timeout=10)
            except grpc.aio.AioRpcError as error:
                return error.code() is grpc.StatusCode.UNAVAILABLE
        return False


@pytest.fixture
async def serve(mounted: Mounted) -> AsyncIterator[Callable[..., Awaitable[Served]]]:
    """Starts servers."""
    async with AsyncExitStack() as stack:

        async def start(*, mutual: bool = False, fuser: ScriptedFuser | None = None) -> Served:
            fuser, registry = fuser or ScriptedFuser(), CollectorRegistry()
            files = FollowedFiles()
            at = mounted.identity
            settings = ServerTls(
                certificate=at.certificate, key=at.key, client_ca=mounted.ca if mutual else None
            )
            tls = Certificates(files, registry, stack).grpc(settings)
            server = await stack.enter_async_context(open_door(fuser, tls=tls))
            return Served(server, fuser, files, registry)

        yield start


class Callers:
    """Callers that connect anew, call a few times, and begin again until they are stopped."""

    def __init__(self, address: str, tls: ClientTls) -> None:
        self._address = address
        self._tls = tls
        self._answered = asyncio.Semaphore(0)
        self._stopped = asyncio.Event()

    async def run(self) -> None:
        while not self._stopped.is_set():
            async with open_channel(self._address, self._tls) as channel:
                for _ in range(3):
                    stub = FuserServiceStub(channel)
                    await stub.ListEnsembles(pb.ListEnsemblesRequest(), timeout=10)
                    self._answered.release()

    async def get_answers(self, number: int) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            for _ in range(number):
                await self._answered.acquire()

    def stop(self) -> None:
        self._stopped.set()


async def test_no_call_fails_while_certificates_are_rotated(
    serve, mounted: Mounted, old: Authority, new: Authority, tmp_path: Path
) -> None:
    both = tmp_path / "both.pem"
    both.write_text(old.certificate.read_text() + new.certificate.read_text())
    served = await serve()
    callers = Callers(served.server.address, ClientTls(both))
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(callers.run())
        for rotation in range(8):
            await callers.get_answers(20)
            authority = old if rotation % 2 else new
            mounted.swap(authority.issue(f"server-{rotation}"), authority)
            served.files.look()
        await callers.get_answers(20)
        mounted.swap(new.issue("server"), new)
        served.files.look()
        await callers.get_answers(20)
        callers.stop()
    assert not await served.refuses(ClientTls(new.certificate))
    assert await served.refuses(ClientTls(old.certificate))


async def test_a_call_in_flight_outlives_its_certificate(
    serve, mounted: Mounted, old: Authority, new: Authority
) -> None:
    rotated = asyncio.Event()

    async def generate(request, context):
        yield segment(1, "one")
        await rotated.wait()
        yield segment(2, "two")

    served = await serve(fuser=ScriptedFuser(generate))
    async with open_channel(served.server.address, ClientTls(old.certificate)) as channel:
        stub = FuserServiceStub(channel)
        call = stub.Generate(pb.GenerateRequest(), timeout=PATIENCE_SECONDS)
        responses = aiter(call)
        first = await anext(responses)
        mounted.swap(new.issue("server"), new)
        served.files.look()
        assert await served.refuses(ClientTls(old.certificate))
        rotated.set()
        rest = [response async for response in responses]
        await stub.ListEnsembles(pb.ListEnsemblesRequest(), timeout=10)
    texts = [response.segment_committed.segment for response in (first, *rest)]
    assert texts == ["one", "two"]


async def test_the_callers_authority_is_followed(
    serve, mounted: Mounted, old: Authority, new: Authority
) -> None:
    served = await serve(mutual=True)
    server = old.issue("server")
    one, other = (authority.issue("caller") for authority in (old, new))
    with_old = ClientTls(old.certificate, one.certificate, one.key)
    with_new = ClientTls(old.certificate, other.certificate, other.key)
    assert (await served.refuses(with_old), await served.refuses(with_new)) == (False, True)
    mounted.swap(server, new)
    served.files.look()
    assert (await served.refuses(with_old), await served.refuses(with_new)) == (True, False)
    assert await served.refuses(ClientTls(old.certificate)), "a certificate is still required"


async def test_a_pair_that_is_half_written_leaves_the_old_one_in_force(
    serve, old: Authority, new: Authority, mounted: Mounted, caplog: pytest.LogCaptureFixture
) -> None:
    served = await serve()
    renewed, at = new.issue("renewed"), mounted.identity
    shutil.copy(renewed.certificate, at.certificate)
    for _ in range(3):
        served.files.look()
    (warned,) = [record for record in caplog.records if "goes on to count" in record.message]
    assert warned.levelno == logging.WARNING
    assert str(at.key) in warned.message
    assert not await served.refuses(ClientTls(old.certificate))
    shutil.copy(renewed.key, at.key)
    served.files.look()
    assert not await served.refuses(ClientTls(new.certificate))


async def test_files_that_vanish_leave_the_old_ones_in_force(
    serve, old: Authority, mounted: Mounted, caplog: pytest.LogCaptureFixture
) -> None:
    served = await serve()
    mounted.identity.key.unlink()
    served.files.look()
    assert "tls.key: cannot be read: No such file" in caplog.text
    assert not await served.refuses(ClientTls(old.certificate))


async def test_files_are_looked_at_again_and_again(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("one")
    changes: asyncio.Queue[str] = asyncio.Queue()
    async with following(every_seconds=0.01) as files:
        assert files.follow([file], file.read_text, changes.put_nowait) == "one"
        file.write_text("another")
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await changes.get() == "another"


def test_a_file_that_holds_what_it_held_is_no_news(tmp_path: Path) -> None:
    file, readings, changes = tmp_path / "file", [], []

    def read() -> str:
        readings.append(file)
        return file.read_text()

    file.write_text("one")
    files = FollowedFiles()
    files.follow([file], read, changes.append)
    files.look()
    assert len(readings) == 1
    file.touch()
    files.look()
    files.read_all()
    assert (len(readings), changes) == (3, [])


def test_what_is_written_to_while_it_is_read_counts_once_it_is_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, changes = tmp_path / "file", []
    file.write_text("one")
    writes = iter(["", "two and", "two and a half"])

    def read() -> str:
        text = file.read_text()
        if written := next(writes, ""):
            file.write_text(written)
        if text == "two and":
            raise Misconfigured("half of it")
        return text

    files = FollowedFiles()
    files.follow([file], read, changes.append)
    file.write_text("two")
    for _ in range(3):
        files.look()
    assert changes == ["two and a half"]
    assert not caplog.records


def identity_of(authority: Authority, since: datetime, until: datetime) -> tuple[Path, Identity]:
    """A certificate that is valid from when to when, and where it is."""
    identity = authority.issue("timed")
    authority.renew(identity, since, until)
    return identity.certificate, Identity.read(TlsFiles(identity.certificate, identity.key))


def expiry(registry: CollectorRegistry | None = None) -> Gauge:
    return Gauge(EXPIRY, "When it ends.", registry=registry)


def served_until(
    authority: Authority, until: datetime, registry: CollectorRegistry | None = None
) -> ServedCertificate[RenewableTls]:
    """What shows a certificate that ends then."""
    path, identity = identity_of(authority, NOW - timedelta(days=90), until)
    return ServedCertificate(path, identity, RenewableTls, expiry(registry), lambda: NOW)


def test_an_expired_certificate_is_not_served(old: Authority) -> None:
    with pytest.raises(Misconfigured, match=r"tls\.certificate .*timed\.pem: expired on .*renew"):
        served_until(old, NOW - timedelta(hours=1))


def test_a_certificate_of_the_future_is_not_served(old: Authority) -> None:
    path, identity = identity_of(old, NOW + timedelta(hours=1), NOW + timedelta(days=90))
    with pytest.raises(Misconfigured, match="not valid before 2026-03-01 13:00 UTC"):
        ServedCertificate(path, identity, RenewableTls, expiry(), lambda: NOW)


@pytest.mark.parametrize(("days", "warns"), [(13, True), (15, False)])
def test_a_certificate_that_ends_soon_is_warned_of(
    old: Authority, caplog: pytest.LogCaptureFixture, days: int, warns: bool
) -> None:
    served_until(old, NOW + timedelta(days=days)).remind()
    assert [record.levelname for record in caplog.records] == ["WARNING"] * warns
    assert f"in {days} days; renew it" in caplog.text or not warns


def test_when_it_expires_is_a_metric(old: Authority) -> None:
    registry = CollectorRegistry()
    until = NOW + timedelta(days=1)
    served = served_until(old, until, registry)
    assert registry.get_sample_value(EXPIRY) == until.timestamp()
    later = NOW + timedelta(days=60)
    _, identity = identity_of(old, NOW, later)
    served.renew(identity)
    assert registry.get_sample_value(EXPIRY) == later.timestamp()


def test_an_expired_one_does_not_take_the_place_of_a_valid_one(
    old: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    registry = CollectorRegistry()
    until = NOW + timedelta(days=60)
    served = served_until(old, until, registry)
    _, identity = identity_of(old, NOW - timedelta(days=2), NOW - timedelta(days=1))
    served.renew(identity)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "expired on 2026-02-28 12:00 UTC; renew it" in record.message
    assert registry.get_sample_value(EXPIRY) == until.timestamp()


def test_one_that_ended_while_it_was_served_is_an_error(
    old: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    moments = iter([NOW, NOW + timedelta(days=2)])
    path, identity = identity_of(old, NOW - timedelta(days=1), NOW + timedelta(days=1))
    moment = partial(next, moments)
    ServedCertificate(path, identity, RenewableTls, expiry(), moment).remind()
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "expired on 2026-03-02 12:00 UTC; renew it" in record.message


async def test_a_fuser_and_its_member_go_over_to_another_authority_without_a_failed_query(
    old: Authority, new: Authority, tmp_path: Path
) -> None:
    """As it is done: first both trust both, then both show the new, then nobody trusts the old."""
    both = (old, new)
    steps = [(old, both), (new, both), (new, (new,))]
    model, fuser = Mounted(tmp_path / "model"), Mounted(tmp_path / "fuser")
    for mounted in (model, fuser):
        mounted.swap(old.issue("one"), old)
    files = FollowedFiles()
    source = TlsFiles(model.identity.certificate, model.identity.key, model.ca)
    async with AsyncExitStack() as stack:
        nodes = await stack.enter_async_context(Nodes())
        settings = ServerTls(
            certificate=source.certificate, key=source.key, client_ca=source.client_ca
        )
        tls = Certificates(files, CollectorRegistry(), stack).grpc(settings)
        node = await nodes.start("a", Line(answer="so it is"), tls=tls)
        at = {"ca": fuser.ca, "certificate": fuser.identity.certificate, "key": fuser.identity.key}
        member = {"endpoints": [node.address], "tls": {key: str(path) for key, path in at.items()}}
        mesh = await stack.enter_async_context(open_fuser({"a": member}))
        for authority, trusted in steps:
            model.swap(authority.issue("two"), *trusted)
            files.look()
            fuser.swap(authority.issue("three"), *trusted)
            mesh.fuser.reread()
            for _ in range(10):
                answer = await mesh.ask()
                assert (answer.text, answer.finished.degraded) == ("so it is", False)
        # Only now is there a replica that takes no other identity than the new one.
        await node.kill()
        await nodes.start("a", Line(answer="so it is"), tls=source, listen=node.address)
        await mesh.becomes_ready("a")
        assert (await mesh.ask()).text == "so it is"
