"""Replicas on Kubernetes: what an API server says, and all that can be wrong with one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from operator import ge
from pathlib import Path

import pytest

from fuser_service.mesh.discovery.kubernetes.account import ServiceAccount
from fuser_service.mesh.discovery.kubernetes.discovery import (
    SlicedEndpoints,
    Timings,
    open_discovery,
)
from fuser_service.mesh.discovery.kubernetes.settings import KubernetesSection
from fuser_service.mesh.discovery.port import Endpoint
from model_service.backends.scripted.settings import Line
from specfuse.errors import Misconfigured
from tests.support.certificates import OPENSSL
from tests.support.fakes.api_server import ApiServer, endpoint, endpoint_slice
from tests.support.fuser_mesh import Nodes, open_fuser

pytestmark = pytest.mark.skipif(OPENSSL is None, reason="makes certificates with openssl")

PATIENCE_SECONDS = 20.0
SECTION = KubernetesSection(selector="specfuse.io/member=llama")
QUICK = Timings(
    watch_seconds=1, answer_seconds=1.0, resync_seconds=3600, shortest_pause=0.01, longest_pause=0.1
)
BOOKMARKED = b'{"metadata":{"resourceVersion":"101"}}'
ONE, TWO, THREE = (f"10.0.0.{number}:50051" for number in (1, 2, 3))


class Followed:
    """What a discovery says, and all that it said."""

    def __init__(self) -> None:
        self.said: list[tuple[Endpoint, ...]] = []
        self._news = asyncio.Event()

    async def follow(self, discovery: SlicedEndpoints) -> None:
        async for endpoints in discovery.watch():
            self.said.append(endpoints)
            self._news.set()

    @property
    def addresses(self) -> list[str]:
        return [one.address for one in self.said[-1]]

    async def until(self, happened: Callable[[tuple[Endpoint, ...]], bool]) -> None:
        """Returns once the endpoints are so."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (self.said and happened(self.said[-1])):
                self._news.clear()
                await self._news.wait()

    async def until_at(self, *addresses: str) -> None:
        """Returns once the replicas are at just these addresses."""
        await self.until(lambda now: [one.address for one in now] == list(addresses))


@asynccontextmanager
async def following(
    server: ApiServer,
    section: KubernetesSection = SECTION,
    timings: Timings = QUICK,
    **environment: str,
) -> AsyncIterator[Followed]:
    """What a discovery says that asks this server from within a pod."""
    account = ServiceAccount(server.account, server.environment | environment)
    followed = Followed()
    task = asyncio.create_task(followed.follow(SlicedEndpoints(section, account, timings)))
    try:
        yield followed
    finally:
        assert not task.done(), "nothing ends it"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with ApiServer(tmp_path) as server:
        yield server


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was said of the member's replicas, and not of the fuser's own zone."""
    said = (one.message for one in caplog.records if one.levelno >= logging.WARNING)
    return [one for one in said if one.startswith("EndpointSlices")]


async def until_logged(caplog: pytest.LogCaptureFixture, text: str) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while text not in caplog.text:  # noqa: ASYNC110 (a log tells nobody)
            await asyncio.sleep(0.01)


async def test_changes_are_told_as_they_happen(server: ApiServer) -> None:
    await server.put(endpoint_slice("a", endpoint("10.0.0.1")))
    async with following(server) as followed:
        await followed.until_at(ONE)
        await server.put(endpoint_slice("b", endpoint("10.0.0.2")))
        await followed.until_at(ONE, TWO)
        ending = endpoint("10.0.0.1", ready=False, terminating=True)
        await server.put(endpoint_slice("a", ending, endpoint("10.0.0.3")))
        await followed.until(lambda now: len(now) == 3 and now[0].terminating)
        await server.delete("a")
        await followed.until_at(TWO)
    first, *others = server.asked
    assert first.query == {"labelSelector": "specfuse.io/member=llama"}
    assert {one.namespace for one in server.asked} == {"models"}
    watch = next(one for one in others if one.watches)
    assert watch.query["allowWatchBookmarks"] == "true"
    assert watch.query["labelSelector"] == "specfuse.io/member=llama"


async def test_a_service_that_gets_the_label_joins_and_one_that_loses_it_leaves(
    server: ApiServer,
) -> None:
    other = {"specfuse.io/member": "qwen"}
    await server.put(endpoint_slice("a", endpoint("10.0.0.1"), labels=other))
    async with following(server) as followed:
        await followed.until_at()
        await server.put(endpoint_slice("a", endpoint("10.0.0.1")))
        await followed.until_at(ONE)
        await server.put(endpoint_slice("a", endpoint("10.0.0.1"), labels=other))
        await followed.until_at()


async def test_that_all_replicas_are_gone_is_news(server: ApiServer) -> None:
    await server.put(endpoint_slice("a", endpoint("10.0.0.1")))
    async with following(server) as followed:
        await followed.until_at(ONE)
        await server.put(endpoint_slice("a"))
        await followed.until_at()


async def test_another_namespace_can_be_asked(server: ApiServer) -> None:
    section = KubernetesSection(selector="specfuse.io/member=llama", namespace="elsewhere")
    there = endpoint_slice("a", endpoint("10.0.0.1"))
    there["metadata"]["namespace"] = "elsewhere"
    await server.put(there, endpoint_slice("b", endpoint("10.0.0.2")))
    async with following(server, section) as followed:
        await followed.until_at(ONE)


async def test_watches_go_on_from_where_the_last_one_ended(server: ApiServer) -> None:
    await server.put(endpoint_slice("a", endpoint("10.0.0.1")))
    async with following(server) as followed:
        await followed.until_at(ONE)
        await server.bookmark()
        await server.until_asked(2, watches=True)
        await server.until_asked(3, watches=True)
        await server.put(endpoint_slice("a", endpoint("10.0.0.2")))
        await followed.until_at(TWO)
    versions = [int(one.query["resourceVersion"]) for one in server.asked if one.watches]
    assert versions[0] < versions[1] == versions[2], "the bookmark's"
    lists = [one for one in server.asked if not one.watches and "labelSelector" in one.query]
    assert len(lists) == 1


async def test_everything_is_listed_anew_now_and_then(server: ApiServer) -> None:
    timings = Timings(watch_seconds=1, resync_seconds=0.5)
    await server.put(endpoint_slice("a", endpoint("10.0.0.1")))
    async with following(server, timings=timings) as followed:
        await followed.until_at(ONE)
        server.slices.clear()  # of which no watch says anything
        await followed.until_at()


# The fuser's own zone


async def test_the_own_zone_is_that_of_the_own_pod(server: ApiServer) -> None:
    near, far = (endpoint(f"10.0.0.{n}", zone=zone) for n, zone in ((1, "west"), (2, "east")))
    fusers = {"app.kubernetes.io/component": "fuser"}
    own = endpoint("10.0.1.1", pod="fuser-0", zone="west")
    await server.put(endpoint_slice("a", near, far), endpoint_slice("f", own, labels=fusers))
    async with following(server) as followed:
        await followed.until(lambda now: any(one.near for one in now))
        assert followed.said[-1] == (Endpoint(ONE, "west", near=True), Endpoint(TWO, "east"))
    async with following(server, POD_NAME="another") as followed:
        await server.until_asked(4)
        await followed.until_at(ONE, TWO)
        assert not any(one.near for one in followed.said[-1])


async def test_the_own_zone_is_looked_for_until_it_is_found(server: ApiServer) -> None:
    await server.put(endpoint_slice("a", endpoint("10.0.0.1", zone="west")))
    async with following(server) as followed:
        await server.until_asked(1, watches=True)
        own = endpoint("10.0.1.1", pod="fuser-0", zone="west")
        await server.put(endpoint_slice("f", own, labels={"app": "fuser"}))
        await followed.until(lambda now: now[0].near)


# Trouble


@pytest.mark.parametrize("as_status", [True, False])
async def test_a_version_that_is_too_old_has_all_listed_anew(
    server: ApiServer, *, as_status: bool, caplog: pytest.LogCaptureFixture
) -> None:
    server.gone_as_status = as_status
    await server.put(endpoint_slice("a", endpoint("10.0.0.1")))
    async with following(server) as followed:
        await followed.until_at(ONE)
        server.hangs.add("watch")
        await server.until_asked(2, watches=True)
        await server.put(endpoint_slice("a", endpoint("10.0.0.2")))
        await server.compact()
        server.hangs.clear()
        await followed.until_at(TWO)
        await server.put(endpoint_slice("a", endpoint("10.0.0.3")))
        await followed.until_at(THREE)


@pytest.mark.parametrize(
    ("verb", "status", "says"),
    [
        ("list", 401, "does not take the service account's token"),
        ("list", 403, "may not list them; it needs a Role"),
        ("watch", 403, "may not watch them; it needs a Role"),
        ("list", 404, "does not have discovery.k8s.io/v1"),
        ("watch", 429, "is overloaded"),
        ("watch", 500, "answers with an error"),
    ],
)
async def test_a_refusal_is_logged_once_changes_nothing_and_passes(
    server: ApiServer, verb: str, status: int, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await server.put(endpoint_slice("a", endpoint("10.0.0.1")))
    async with following(server) as followed:
        await followed.until_at(ONE)
        server.refusals[verb] = status
        if verb == "list":
            await server.reset()
        await until_logged(caplog, says)
        await server.until_asked(len(server.asked) + 5, watches=verb == "watch")
        assert followed.addresses == [ONE]
        assert sum(says in one for one in warnings(caplog)) == 1
        assert f"({status}: endpointslices.discovery.k8s.io is forbidden" in caplog.text
        server.refusals.clear()
        await server.put(endpoint_slice("a", endpoint("10.0.0.2")))
        await followed.until_at(TWO)
        await until_logged(caplog, "watched again")


@pytest.mark.parametrize("verb", ["list", "watch"])
@pytest.mark.parametrize(
    "answer",
    [
        (200, b"<html>Welcome to nginx!</html>"),
        (502, b"<html>Bad Gateway</html>"),
        (200, b'{"kind":"Status","status":"Success"}'),
        (200, b'{"kind":"EndpointSliceList","metadata":{},"items":[]}'),
        (200, b'{"type":"ADDED"}\n'),
        (200, b'{"type":"MADE UP","object":{}}\n'),
        (200, b'{"type":"ERROR","object":{"code":500,"message":"etcd is away"}}\n'),
        (200, b"\xff\xfe\n"),
    ],
)
async def test_nonsense_changes_nothing(
    server: ApiServer, verb: str, answer: tuple[int, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    await server.put(endpoint_slice("a", endpoint("10.0.0.1")))
    async with following(server) as followed:
        await followed.until_at(ONE)
        server.raw[verb] = answer
        if verb == "list":
            await server.reset()
        await until_logged(caplog, "answer")
        await server.until_asked(len(server.asked) + 3, watches=verb == "watch")
        assert followed.addresses == [ONE]
        server.raw.clear()
        await server.put(endpoint_slice("a", endpoint("10.0.0.2")))
        await followed.until_at(TWO)


async def test_a_server_that_is_away_is_found_again(
    server: ApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    await server.put(endpoint_slice("a", endpoint("10.0.0.1")))
    async with following(server) as followed:
        await followed.until_at(ONE)
        await server.away(attempts=5)
        assert followed.addresses == [ONE]
        assert sum("cannot be reached" in one for one in warnings(caplog)) == 1
        await server.put(endpoint_slice("a", endpoint("10.0.0.2")))
        await server.start()
        await followed.until_at(TWO)


async def test_a_watch_that_breaks_off_is_begun_anew(server: ApiServer) -> None:
    await server.put(endpoint_slice("a", endpoint("10.0.0.1")))
    async with following(server) as followed:
        for number in (1, 2, 3):
            await server.put(endpoint_slice("a", endpoint(f"10.0.0.{number}")))
            await followed.until_at(f"10.0.0.{number}:50051")
            await server.reset()


async def test_a_watch_that_hangs_is_given_up(
    server: ApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    await server.put(endpoint_slice("a", endpoint("10.0.0.1")))
    server.silent = True
    async with following(server) as followed:
        await followed.until_at(ONE)
        await until_logged(caplog, "the API server does not answer")
        await server.put(endpoint_slice("a", endpoint("10.0.0.2")))
        await followed.until_at(TWO)


@pytest.mark.parametrize("verb", ["list", "watch"])
async def test_a_request_that_is_never_answered_is_given_up(
    server: ApiServer, verb: str, caplog: pytest.LogCaptureFixture
) -> None:
    await server.put(endpoint_slice("a", endpoint("10.0.0.1")))
    server.hangs.add(verb)
    async with following(server) as followed:
        await until_logged(caplog, "the API server does not answer")
        server.hangs.clear()
        await followed.until_at(ONE)
        await server.put(endpoint_slice("a", endpoint("10.0.0.2")))
        await followed.until_at(TWO)


@pytest.mark.parametrize("news", [b"", b'{"type":"BOOKMARK","object":%s}\n' % BOOKMARKED])
async def test_watches_that_end_at_once_are_not_begun_without_pauses(
    server: ApiServer, news: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    server.raw["watch"] = (200, news)
    timings = Timings(shortest_pause=0.1, longest_pause=0.4)
    async with following(server, timings=timings):
        await server.until_asked(5, watches=True)
    least = [0.05] * 4 if news else [0.05, 0.1, 0.2, 0.2]
    assert all(map(ge, server.pauses(watches=True), least))
    assert sum("at once" in one for one in warnings(caplog)) == (not news)


async def test_a_server_that_wants_to_be_left_alone_is(server: ApiServer) -> None:
    server.refusals["list"] = 429
    server.headers["Retry-After"] = "1"
    timings = Timings(shortest_pause=0.001, longest_pause=60.0)
    async with following(server, timings=timings):
        await server.until_asked(2)
    assert server.pauses()[0] >= 1.0


async def test_a_slice_with_as_many_endpoints_as_there_may_be_is_read(
    server: ApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    await server.put(endpoint_slice("a"))
    many = [endpoint(f"10.0.{n // 250}.{n % 250}", zone="europe-west4-a") for n in range(1000)]
    async with following(server) as followed:
        await server.until_asked(1, watches=True)
        await server.put(endpoint_slice("a", *many))
        await followed.until(lambda now: len(now) == 1000)
        await server.put(endpoint_slice("a", *many[1:]))
        await followed.until(lambda now: len(now) == 999)
    assert not warnings(caplog)


async def test_a_renewed_token_is_used(server: ApiServer, caplog: pytest.LogCaptureFixture) -> None:
    await server.put(endpoint_slice("a", endpoint("10.0.0.1")))
    async with following(server) as followed:
        await followed.until_at(ONE)
        server.tokens = {"second"}
        await until_logged(caplog, "does not take the service account's token")
        server.mount_token("second")
        await server.put(endpoint_slice("a", endpoint("10.0.0.2")))
        await followed.until_at(TWO)
    assert "first" not in caplog.text
    assert "second" not in caplog.text


async def test_an_account_that_cannot_be_read_for_a_while_is_no_news(
    server: ApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    await server.put(endpoint_slice("a", endpoint("10.0.0.1")))
    async with following(server) as followed:
        await followed.until_at(ONE)
        (server.account / "token").unlink()
        await server.reset()
        await until_logged(caplog, "the service account cannot be read")
        server.mount_token("first")
        await server.put(endpoint_slice("a", endpoint("10.0.0.2")))
        await followed.until_at(TWO)


async def test_the_way_to_the_server_is_direct(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    await server.put(endpoint_slice("a", endpoint("10.0.0.1")))
    async with following(server) as followed:
        await followed.until_at(ONE)


async def test_a_server_of_another_authority_is_not_told_the_token(
    server: ApiServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    impostor = ApiServer(other)
    (server.account / "ca.crt").write_bytes((impostor.account / "ca.crt").read_bytes())
    async with following(server):
        await until_logged(caplog, "cannot be reached")
    assert not server.asked


# A fuser in a pod


async def test_a_fuser_answers_with_replicas_that_a_service_has_while_the_server_is_away(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fuser_service.mesh.discovery.kubernetes.account._FOLDER", server.account)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    member = {"kubernetes": {"selector": "specfuse.io/member=llama"}}
    async with Nodes() as nodes, open_fuser({"llama": member}) as mesh:
        assert await mesh.ready_members() == []
        node = await nodes.start("llama", Line(answer="so it is"))
        host, _, port = node.address.rpartition(":")
        ports = [{"name": "grpc", "port": int(port), "protocol": "TCP"}]
        await server.put(endpoint_slice("llama", endpoint(host), ports=ports))
        await mesh.becomes_ready("llama")
        await server.stop()
        assert (await mesh.ask()).text == "so it is"


async def test_a_server_that_does_not_answer_does_not_hold_up_the_start(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("fuser_service.mesh.discovery.kubernetes.account._FOLDER", server.account)
    monkeypatch.setattr("fuser_service.mesh.member._DISCOVERY_SECONDS", 0.05)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    server.hangs.add("list")
    member = {"kubernetes": {"selector": "specfuse.io/member=llama"}}
    async with open_fuser({"llama": member}) as mesh:
        assert await mesh.ready_members() == []
    assert "llama: its replicas are not known yet" in caplog.text


def test_outside_of_a_pod_there_is_nobody_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(Misconfigured, match=r"needs a pod's service account .*; run the fuser in"):
        open_discovery(SECTION)


async def test_a_selector_that_nothing_has_and_a_port_that_none_has_are_named(
    server: ApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with following(server) as followed:
        await until_logged(caplog, "there are none; look at the labels of the member's Service")
        port = {"name": "web", "port": 80, "protocol": "TCP"}
        await server.put(endpoint_slice("a", endpoint("10.0.0.1"), ports=[port]))
        await until_logged(caplog, "none has the port grpc; there are: web: 80")
        await server.put(endpoint_slice("a", endpoint("10.0.0.1")))
        await followed.until_at(ONE)
    assert all("specfuse.io/member=llama in models" in one for one in warnings(caplog))
