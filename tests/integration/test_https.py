"""The HTTP door behind TLS: its certificate, that of its callers, and both renewed."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai import AsyncOpenAI
from prometheus_client import CollectorRegistry

from model_service.backends.scripted.settings import Line
from specfuse.config.types import ServerTls
from specfuse.errors import Misconfigured
from specfuse.http.bounds import Bounds
from specfuse.serving.certificate import Certificates
from specfuse.serving.files import FollowedFiles
from tests.support.certificates import OPENSSL, Authority, Identity, Mounted
from tests.support.fuser_mesh import PATIENCE_SECONDS, Nodes, open_fuser
from tests.support.http_caller import Caller, calling
from tests.support.openai_door import HELLO, STARTED, PlayedDoor, committed, finished, open_played

pytestmark = pytest.mark.skipif(OPENSSL is None, reason="needs the openssl program")

HEALTH = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"


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


def trusting(authority: Authority, identity: Identity | None = None) -> ssl.SSLContext:
    """What a caller trusts, and what it shows."""
    context = ssl.create_default_context(cafile=str(authority.certificate))
    if identity is not None:
        context.load_cert_chain(identity.certificate, identity.key)
    return context


@dataclass
class Served:
    """A door whose certificates are in a folder, and the files that it follows."""

    door: PlayedDoor
    files: FollowedFiles
    registry: CollectorRegistry

    @asynccontextmanager
    async def connected(self, tls: ssl.SSLContext) -> AsyncIterator[Caller]:
        """A connection under this trust."""
        host, _, port = self.door.address.rpartition(":")
        caller = Caller(*await asyncio.open_connection(host, int(port), ssl=tls))
        try:
            yield caller
        finally:
            caller.writer.transport.abort()

    async def answers(self, tls: ssl.SSLContext) -> bool:
        """Whether a new connection under this trust gets an answer."""
        try:
            async with self.connected(tls) as caller:
                return await healthy(caller)
        except (ssl.SSLError, ConnectionError, asyncio.IncompleteReadError):
            return False


async def healthy(caller: Caller) -> bool:
    await caller.send(HEALTH)
    async with asyncio.timeout(PATIENCE_SECONDS):
        return (await caller.reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")


@pytest.fixture
async def serve(mounted: Mounted) -> AsyncIterator[Callable[..., Awaitable[Served]]]:
    """Starts doors."""
    async with AsyncExitStack() as stack:

        async def start(*, mutual: bool = False, bounds: Bounds | None = None) -> Served:
            files, registry, at = FollowedFiles(), CollectorRegistry(), mounted.identity
            ca = mounted.ca if mutual else None
            settings = ServerTls(certificate=at.certificate, key=at.key, client_ca=ca)
            tls = Certificates(files, registry, stack).http(settings)
            events = (STARTED, committed(1, "x"), finished())
            door = await stack.enter_async_context(open_played(*events, tls=tls, bounds=bounds))
            return Served(door, files, registry)

        yield start


async def test_the_sdk_asks_over_tls(serve: Any, old: Authority) -> None:
    served = await serve()
    async with (
        httpx2.AsyncClient(verify=trusting(old)) as http,
        AsyncOpenAI(
            base_url=f"https://{served.door.address}/v1", api_key="k", http_client=http
        ) as sdk,
    ):
        answer = await sdk.chat.completions.create(model="all", messages=HELLO)
    assert answer.choices[0].message.content == "x"


async def test_who_trusts_another_authority_does_not_connect(serve: Any, new: Authority) -> None:
    assert not await (await serve()).answers(trusting(new))


async def test_callers_must_show_a_certificate_if_that_is_asked(
    serve: Any, old: Authority, new: Authority
) -> None:
    served = await serve(mutual=True)
    assert await served.answers(trusting(old, old.issue("caller")))
    assert not await served.answers(trusting(old))
    assert not await served.answers(trusting(old, new.issue("stranger")))


async def test_new_connections_see_a_renewed_certificate_and_others_go_on(
    serve: Any, mounted: Mounted, old: Authority, new: Authority
) -> None:
    served = await serve(mutual=True)
    async with served.connected(trusting(old, old.issue("caller"))) as standing:
        assert await healthy(standing)
        mounted.swap(new.issue("server"), new)
        served.files.look()
        assert await served.answers(trusting(new, new.issue("caller")))
        assert not await served.answers(trusting(old, old.issue("caller")))
        assert not await served.answers(trusting(new, old.issue("caller")))
        assert await healthy(standing)


async def test_files_that_are_wrong_change_nothing(
    serve: Any, mounted: Mounted, old: Authority, new: Authority, tmp_path: Path
) -> None:
    served = await serve()
    broken = Identity(new.issue("server").certificate, old.issue("other").key)
    mounted.swap(broken, new)
    served.files.look()
    assert await served.answers(trusting(old))


async def test_when_the_certificate_ends_is_a_metric_of_the_door(serve: Any) -> None:
    served = await serve()
    name = "specfuse_tls_certificate_expiry_timestamp_seconds"
    assert (served.registry.get_sample_value(name, {"door": "http"}) or 0) > 1.7e9


async def test_a_handshake_that_does_not_come_is_not_waited_for(serve: Any) -> None:
    served = await serve(bounds=Bounds(handshake_seconds=0.2))
    async with calling(served.door.address, b"\x16\x03\x01") as caller:
        assert await caller.rest() == b""
    async with calling(served.door.address, HEALTH) as plain:
        assert not (await plain.rest()).startswith(b"HTTP")


async def test_of_handshakes_that_do_not_come_the_oldest_make_way(
    serve: Any, old: Authority
) -> None:
    served = await serve(bounds=Bounds(connections=2, handshake_seconds=3600.0))
    async with AsyncExitStack() as stack:
        silent = [await stack.enter_async_context(calling(served.door.address)) for _ in range(20)]
        for caller in silent[:-2]:
            assert await caller.rest() == b""
        assert await served.answers(trusting(old))
        assert await silent[-2].rest() == b""
        last = silent[-1]
        assert not last.reader.at_eof()
        await served.door.server.drain(0.0)
        assert await last.rest() == b""


async def test_a_connection_that_stands_goes_on_whoever_shakes_no_hands(
    serve: Any, old: Authority
) -> None:
    served = await serve(bounds=Bounds(connections=2, handshake_seconds=3600.0))
    async with AsyncExitStack() as stack:
        standing = await stack.enter_async_context(served.connected(trusting(old)))
        assert await healthy(standing)
        first = await stack.enter_async_context(calling(served.door.address))
        for _ in range(4):
            await stack.enter_async_context(calling(served.door.address))
        assert await first.rest() == b""
        assert await healthy(standing)


async def test_a_fuser_serves_each_door_with_its_own_certificate(
    old: Authority, new: Authority
) -> None:
    mine = old.issue("http")
    files = {"certificate": str(mine.certificate), "key": str(mine.key)}
    async with Nodes() as nodes:
        top = {"http": {"listen": "127.0.0.1:0", "tls": files}}
        async with open_fuser({"a": await nodes.start("a", Line(answer="x"))}, top=top) as mesh:
            served = f"https://{mesh.fuser.http_address}/healthz"
            async with httpx2.AsyncClient(verify=trusting(old)) as http:
                assert (await http.get(served)).status_code == 200
            assert (await mesh.ready_members()) is not None
            ends = await mesh.metric(
                "specfuse_tls_certificate_expiry_timestamp_seconds", door="http"
            )
    assert ends


async def test_a_client_certificate_says_who_asks(old: Authority) -> None:
    server = old.issue("server")
    tls = {
        "certificate": str(server.certificate),
        "key": str(server.key),
        "client_ca": str(old.certificate),
    }
    top = {
        "http": {"listen": "127.0.0.1:0", "tls": tls},
        "tenancy": {
            "teams": {
                "search": {"certificates": ["search.example"]},
                "batch": {"certificates": ["batch-job"]},
            }
        },
    }
    callers = {
        "search": old.issue("any", "DNS:search.example"),
        "batch": old.issue("batch-job"),
        None: old.issue("stranger", "DNS:other.example"),
    }
    async with Nodes() as nodes:
        node = await nodes.start("a", Line(answer="x"))
        async with open_fuser({"a": node}, top=top) as mesh:
            for team, identity in callers.items():
                async with (
                    httpx2.AsyncClient(verify=trusting(old, identity)) as http,
                    AsyncOpenAI(
                        base_url=f"https://{mesh.fuser.http_address}/v1",
                        api_key="k",
                        http_client=http,
                        max_retries=0,
                    ) as sdk,
                ):
                    asking = sdk.chat.completions.create(model="all", messages=HELLO)
                    if team is None:
                        with pytest.raises(openai.AuthenticationError):
                            await asking
                        continue
                    await asking
                    count = await mesh.metric(
                        "specfuse_team_requests_total", ensemble="all", team=team, outcome="ok"
                    )
                    assert count == 1


async def statuses(
    top: Any, authority: Authority, *shown: Identity | None
) -> list[dict[str, int | str]]:
    """What a fuser with these settings answers whom, by path; `refused` without a connection."""
    found: list[dict[str, int | str]] = []
    async with Nodes() as nodes:
        node = await nodes.start("a", Line(answer="x"))
        async with open_fuser({"a": node}, top=top) as mesh:
            for identity in shown:
                async with httpx2.AsyncClient(
                    verify=trusting(authority, identity),
                    base_url=f"https://{mesh.fuser.http_address}",
                ) as http:
                    paths = ("/healthz", "/readyz", "/v1/models")
                    found.append({path: await status_of(http, path) for path in paths})
    return found


async def status_of(http: httpx2.AsyncClient, path: str) -> int | str:
    """How the path is answered, once the fuser's members are there."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (status := (await http.get(path)).status_code) == 503:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    except httpx2.TransportError:
        return "refused"
    return status


def mutual(authority: Authority, **tenancy: Any) -> dict[str, Any]:
    """Settings of a fuser whose HTTP door asks callers for a certificate."""
    server = authority.issue("server")
    tls = {
        "certificate": str(server.certificate),
        "key": str(server.key),
        "client_ca": str(authority.certificate),
    }
    return {"http": {"listen": "127.0.0.1:0", "tls": tls}, **tenancy}


async def test_probes_need_no_certificate_where_tenancy_says_who_asks(
    old: Authority, new: Authority
) -> None:
    top = mutual(old, tenancy={"teams": {"search": {"certificates": ["search"]}}})
    callers = (old.issue("search"), None, new.issue("search"))
    assert await statuses(top, old, *callers) == [
        {"/healthz": 200, "/readyz": 200, "/v1/models": 200},
        {"/healthz": 200, "/readyz": 200, "/v1/models": 401},
        dict.fromkeys(("/healthz", "/readyz", "/v1/models"), "refused"),
    ]


@pytest.mark.parametrize("tenancy", [{}, {"tenancy": {"anonymous": "allow"}}], ids=["none", "all"])
async def test_where_everybody_else_would_be_let_in_a_certificate_is_required(
    tenancy: Any, old: Authority
) -> None:
    anybody, nobody = await statuses(mutual(old, **tenancy), old, old.issue("any"), None)
    assert set(anybody.values()) == {200}
    assert set(nobody.values()) == {"refused"}


@pytest.mark.parametrize(
    ("http", "says"),
    [
        ({"listen": "127.0.0.1:99999"}, "http.listen"),
        ({"tls": {"certificate": "/missing", "key": "/missing"}}, "/missing: cannot be read"),
        ({"body_bytes": 0}, "http.body_bytes: 0"),
        ({"port": 1}, "http.port: unknown key"),
    ],
)
async def test_wrong_settings_keep_a_fuser_from_starting(http: Any, says: str) -> None:
    with pytest.raises(Misconfigured, match=says):
        async with open_fuser({"a": {"endpoints": ["127.0.0.1:9"]}}, top={"http": http}):
            pass


async def test_a_port_in_use_is_named_and_nothing_is_started() -> None:
    async with open_played() as door:
        http = {"listen": door.address}
        with pytest.raises(Misconfigured, match=r"http\.listen: cannot bind .* in use"):
            async with open_fuser({"a": {"endpoints": ["127.0.0.1:9"]}}, top={"http": http}):
                pass


async def test_an_unread_stream_ends_behind_tls_too(mounted: Mounted, old: Authority) -> None:
    events = [committed(number, "x" * 65_536) for number in range(1, 1000)]
    async with AsyncExitStack() as stack:
        at = mounted.identity
        settings = ServerTls(certificate=at.certificate, key=at.key)
        tls = Certificates(FollowedFiles(), CollectorRegistry(), stack).http(settings)
        bounds = Bounds(stall_seconds=0.2)
        opened = open_played(STARTED, *events, finished(), tls=tls, bounds=bounds)
        door = await stack.enter_async_context(opened)
        served = Served(door, FollowedFiles(), CollectorRegistry())
        caller = await stack.enter_async_context(served.connected(trusting(old)))
        caller.writer.transport.pause_reading()
        body = json.dumps({"model": "all", "messages": HELLO, "stream": True}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
        await caller.send(head.encode() + b"content-type: application/json\r\n\r\n" + body)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await door.fusion.closed.acquire()
            while door.server.connections:  # noqa: ASYNC110 (behind a socket)
                await asyncio.sleep(0.01)
        assert door.fusion.said < len(events)
