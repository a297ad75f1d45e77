"""Who may ask a fuser, and how much, over real gRPC."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from fuser_service import main as fuser_main
from fuser_service.settings.settings import Settings
from fuser_service.tenancy.key_file import KeyEntry, change
from fuser_service.tenancy.keys import digest_of, id_of, new_key
from model_service.backends.scripted.settings import Line
from specfuse.client import AsyncClient, Client, ClientTls
from specfuse.errors import (
    Forbidden,
    Misconfigured,
    NotFound,
    Overloaded,
    RateLimited,
    Unauthenticated,
)
from specfuse.rpc.channels import open_channel
from specfuse.rpc.errors import from_rpc_error
from specfuse.v1 import fuser_service_pb2 as pb
from tests.support.certificates import OPENSSL, Authority
from tests.support.fuser_mesh import PATIENCE_SECONDS, FuserMesh, Node, Nodes, open_fuser

PARIS = "The capital of France is Paris"


class Keys:
    """A file of keys, in a folder that is swapped as Kubernetes does with a mounted Secret."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._own = folder / "own.yaml"
        self._swaps = 0
        self.file = folder / "mounted" / "keys.yaml"
        self.file.parent.mkdir()
        self.file.symlink_to(Path("..data") / "keys.yaml")
        self.swap("keys: []")

    def new(self, team: str, expires: datetime | None = None) -> str:
        """A key of the team, in the file from now on."""
        key = new_key()
        entry = KeyEntry(id=id_of(key), sha256=digest_of(key), team=team, expires=expires)
        change(self._own, lambda entries: [*entries, entry])
        self.swap(self._own.read_text())
        return key

    def revoke(self, key: str) -> None:
        """Takes the key out of the file."""
        change(self._own, lambda entries: [one for one in entries if one.id != id_of(key)])
        self.swap(self._own.read_text())

    def swap(self, text: str) -> None:
        """Puts this in the place of the file."""
        self._swaps += 1
        data = self.file.parent / f"..{self._swaps}"
        data.mkdir()
        (data / "keys.yaml").write_text(text)
        link = self.file.parent / "..new"
        link.symlink_to(data.name)
        link.replace(self.file.parent / "..data")


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


@pytest.fixture
async def nodes() -> AsyncIterator[Nodes]:
    """Starts members, and ends them after the test."""
    async with Nodes() as nodes:
        yield nodes


@asynccontextmanager
async def tenanted(
    node: Node, keys: Keys, *, top: dict[str, Any] | None = None, **tenancy: Any
) -> AsyncIterator[FuserMesh]:
    """A fuser over one member, which is two ensembles, that asks for keys."""
    ensembles = {name: {"members": ["a"], "segment_tokens": 2} for name in ("one", "two")}
    section = {"keys": str(keys.file), "teams": {"search": {}}, **tenancy}
    settings = {"ensembles": ensembles, "tenancy": section, **(top or {})}
    async with open_fuser({"a": node}, top=settings) as mesh:
        yield mesh


def bearing(*keys: str) -> tuple[tuple[str, str], ...]:
    return tuple(("authorization", f"Bearer {key}") for key in keys)


def begin(mesh: FuserMesh, *keys: str, more: Any = (), **fields: Any) -> Any:
    """A call with these keys, under way."""
    request = pb.GenerateRequest(**{"raw_prompt": "?", "ensemble": "one", **fields})
    metadata = (*bearing(*keys), *more)
    return mesh.stub.Generate(request, timeout=PATIENCE_SECONDS, metadata=metadata)


async def text_of(call: Any) -> str:
    events = [response async for response in call]
    return "".join(event.segment_committed.text for event in events) + events[-1].finished.text


async def refusal(call: Any) -> Exception:
    """The error that a call ends in, as our client has it."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await text_of(call)
    return from_rpc_error(error.value)


async def becomes(condition: Callable[[], Any]) -> None:
    """Returns when the condition holds."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await condition():  # noqa: ASYNC110 (behind a socket)
            await asyncio.sleep(0.02)


async def outcomes(mesh: FuserMesh, team: str, ensemble: str = "one") -> dict[str, float]:
    """How many requests ended how, of those that did."""
    found = {}
    for outcome in ("ok", "unauthenticated", "forbidden", "rate_limited", "cancelled"):
        labels = {"team": team, "ensemble": ensemble, "outcome": outcome}
        value = await mesh.metric("specfuse_team_requests_total", **labels)
        if value:
            found[outcome] = value
    return found


class TestWho:
    async def test_only_who_has_a_key_is_answered(self, nodes: Nodes, keys: Keys) -> None:
        key = keys.new("search")
        async with tenanted(await nodes.start("a", Line(answer=PARIS)), keys) as mesh:
            assert await text_of(begin(mesh, key)) == PARIS
            for wrong in ((), (new_key(),), (key, key), (f"{key} ",) * 2, ("sf-nonsense",)):
                error = await refusal(begin(mesh, *wrong))
                assert isinstance(error, Unauthenticated)
                assert key not in str(error)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await mesh.stub.ListEnsembles(pb.ListEnsemblesRequest())
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
            assert await outcomes(mesh, "search") == {"ok": 1}
            assert await outcomes(mesh, "unknown", "unknown") == {"unauthenticated": 6}
            labels = {"ensemble": "unknown", "outcome": "unauthenticated"}
            assert await mesh.metric("specfuse_request_duration_seconds_count", **labels) == 6
            assert await mesh.metric("specfuse_requests_in_flight") == 0
            assert await mesh.metric("specfuse_anonymous_allowed") == 0

    async def test_health_and_reflection_need_no_key(self, nodes: Nodes, keys: Keys) -> None:
        async with (
            tenanted(await nodes.start("a", Line(answer=PARIS)), keys) as mesh,
            open_channel(mesh.fuser.address) as channel,
        ):
            said = await HealthStub(channel).Check(health_pb2.HealthCheckRequest())
            assert said.status == health_pb2.HealthCheckResponse.SERVING
            request = reflection_pb2.ServerReflectionRequest(list_services="")
            call = ServerReflectionStub(channel).ServerReflectionInfo(iter([request]))
            (listed,) = [one.list_services_response async for one in call]
            assert "specfuse.v1.FuserService" in [service.name for service in listed.service]

    async def test_what_callers_say_of_their_team_is_not_believed(
        self, nodes: Nodes, keys: Keys
    ) -> None:
        key = keys.new("search")
        spoofed = (("x-specfuse-team", "batch"), ("team", "batch"))
        async with tenanted(
            await nodes.start("a", Line(answer=PARIS)), keys, teams={"search": {}, "batch": {}}
        ) as mesh:
            await text_of(begin(mesh, key, more=spoofed))
            assert await outcomes(mesh, "search") == {"ok": 1}
            assert await outcomes(mesh, "batch") == {}

    async def test_a_key_that_is_revoked_or_made_while_it_runs(
        self, nodes: Nodes, keys: Keys
    ) -> None:
        first = keys.new("search")
        node = await nodes.start("a", Line(answer=PARIS), hold_from=1)
        async with tenanted(node, keys) as mesh:
            running = asyncio.create_task(text_of(begin(mesh, first)))
            await node.comes_to_wait()
            second = keys.new("search")
            keys.revoke(first)
            await becomes(lambda: _refused(mesh, first))  # nobody tells the fuser: it looks
            node.backend.opened.set()
            assert await running == PARIS, "what was under way goes on"
            assert await text_of(begin(mesh, second)) == PARIS

    async def test_a_broken_file_keeps_the_old_keys(
        self, nodes: Nodes, keys: Keys, caplog: pytest.LogCaptureFixture
    ) -> None:
        key = keys.new("search")
        async with tenanted(await nodes.start("a", Line(answer=PARIS)), keys) as mesh:
            for broken in ("keys: [", "keys:\n- {id: sf-aaaaaaaa, sha256: short, team: search}"):
                keys.swap(broken)
                mesh.fuser.reread()
                assert await text_of(begin(mesh, key)) == PARIS
            assert "keys.yaml:2: keys[0].sha256: 'short'" in caplog.text
            assert "what was read before goes on to count" in caplog.text
            keys.swap("keys: []")
            mesh.fuser.reread()
            assert isinstance(await refusal(begin(mesh, key)), Unauthenticated)
        assert key not in caplog.text
        assert digest_of(key) not in caplog.text

    async def test_a_key_of_a_team_that_there_is_not_keeps_no_other_from_being_revoked(
        self, nodes: Nodes, keys: Keys, caplog: pytest.LogCaptureFixture
    ) -> None:
        stray, first, second = keys.new("serach"), keys.new("search"), keys.new("search")
        async with tenanted(await nodes.start("a", Line(answer=PARIS)), keys) as mesh:
            assert f"{id_of(stray)} of serach" in caplog.text
            assert isinstance(await refusal(begin(mesh, stray)), Unauthenticated)
            assert await text_of(begin(mesh, first)) == PARIS
            assert await mesh.metric("specfuse_keys") == 2
            keys.revoke(first)
            mesh.fuser.reread()
            assert isinstance(await refusal(begin(mesh, first)), Unauthenticated)
            assert await text_of(begin(mesh, second)) == PARIS
            assert await mesh.metric("specfuse_keys") == 1

    async def test_a_key_ends_when_it_says(self, nodes: Nodes, keys: Keys) -> None:
        key = keys.new("search", datetime(2026, 1, 1, tzinfo=UTC))
        async with tenanted(await nodes.start("a", Line(answer=PARIS)), keys) as mesh:
            error = await refusal(begin(mesh, key))
            assert isinstance(error, Unauthenticated)
            assert f"{id_of(key)} expired on 2026-01-01" in str(error)

    async def test_a_file_that_is_wrong_at_the_start_stops_it(
        self, nodes: Nodes, keys: Keys
    ) -> None:
        keys.swap("keys: nonsense")
        node = await nodes.start("a", Line(answer=PARIS))
        with pytest.raises(Misconfigured, match=r"keys.yaml:1: keys: 'nonsense'"):
            async with tenanted(node, keys):
                pass

    async def test_metadata_that_makes_no_sense_is_refused_and_harms_nobody(
        self, nodes: Nodes, keys: Keys
    ) -> None:
        key = keys.new("search")
        hostile: list[Any] = [
            [("authorization", "x" * 4000)],
            [("authorization", "Bearer " + "sf-" * 1000)],
            [("authorization", "")] * 50,
            [("authorization-bin", b"\xff\x00" * 100)],
            [(f"x-{number}", "y") for number in range(100)],
            [("authorization", "Bearer \x7e" + "~" * 100)],
            [("authorization", "x" * 100_000)],  # gRPC itself refuses it
        ]
        async with tenanted(await nodes.start("a", Line(answer=PARIS)), keys) as mesh:
            for metadata in hostile:
                with pytest.raises(grpc.aio.AioRpcError) as error:
                    await text_of(begin(mesh, more=metadata))
                assert error.value.code() in (
                    grpc.StatusCode.UNAUTHENTICATED,
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                )
            assert await text_of(begin(mesh, key)) == PARIS
            assert await mesh.metric("specfuse_requests_in_flight") == 0

    async def test_anonymous_callers_where_they_are_let_in(
        self, nodes: Nodes, keys: Keys, caplog: pytest.LogCaptureFixture
    ) -> None:
        node = await nodes.start("a", Line(answer=PARIS))
        limited = {"search": {}, "anonymous": {"ensembles": ["two"]}}
        async with tenanted(node, keys, anonymous="allow", teams=limited) as mesh:
            assert await text_of(begin(mesh, ensemble="two")) == PARIS
            assert isinstance(await refusal(begin(mesh)), Forbidden)
            assert isinstance(await refusal(begin(mesh, new_key())), Unauthenticated)
            assert await mesh.metric("specfuse_anonymous_allowed") == 1
            assert await outcomes(mesh, "anonymous", "two") == {"ok": 1}
        assert "callers without a key are let in" in caplog.text

    @pytest.mark.skipif(OPENSSL is None, reason="needs the openssl program")
    async def test_a_client_certificate_says_who_asks(
        self, nodes: Nodes, keys: Keys, tmp_path: Path
    ) -> None:
        authority = Authority.create(tmp_path)
        server = authority.issue("server")
        search, other = authority.issue("search", "DNS:search.example"), authority.issue("other")
        tls = {
            "certificate": str(server.certificate),
            "key": str(server.key),
            "client_ca": str(authority.certificate),
        }
        teams = {"search": {"certificates": ["search.example"]}, "batch": {"certificates": ["cn"]}}
        node = await nodes.start("a", Line(answer=PARIS))
        async with tenanted(node, keys, top={"tls": tls}, teams=teams) as mesh:

            def as_(identity: Any) -> AsyncClient:
                files = ClientTls(authority.certificate, identity.certificate, identity.key)
                return AsyncClient(mesh.fuser.address, tls=files, api_key="")

            async with as_(search) as client:
                assert (await client.generate("?", ensemble="one")).text == PARIS
            async with as_(other) as client:
                with pytest.raises(Unauthenticated):
                    await client.generate("?", ensemble="one")
            async with as_(authority.issue("cn", "DNS:unknown.example")) as client:
                assert (await client.generate("?", ensemble="one")).text == PARIS
            assert await outcomes(mesh, "search") == {"ok": 1}
            assert await outcomes(mesh, "batch") == {"ok": 1}

    @pytest.mark.skipif(OPENSSL is None, reason="needs the openssl program")
    async def test_relative_paths_start_where_the_fuser_is_started(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Those of keys, accounts and passwords as those of certificates."""
        for folder in ("here", "elsewhere"):
            (tmp_path / folder).mkdir()
        here = tmp_path / "here"
        Authority.create(here).issue("server")
        change(here / "keys.yaml", lambda _: [])
        (here / "password").write_text("secret")
        tenancy = {
            "keys": "keys.yaml",
            "accounting": {"file": "accounts.jsonl"},
            "store": {"url": "redis://127.0.0.1:9", "password_file": "password"},
        }
        document = {
            "listen": "127.0.0.1:0",
            "metrics_listen": "127.0.0.1:0",
            "tls": {"certificate": "server.pem", "key": "server.key", "client_ca": "ca.pem"},
            "tenancy": tenancy,
            "members": {"a": {"endpoints": ["127.0.0.1:9"], "tls": {"ca": "ca.pem"}}},
            "ensembles": {"all": {"members": ["a"]}},
        }
        file = tmp_path / "elsewhere" / "fuser.yaml"
        file.write_text(json.dumps(document))
        monkeypatch.chdir(here)
        fuser = await fuser_main.start(Settings.read(file))
        await fuser.stop()
        assert (here / "accounts.jsonl").exists()


class TestWhat:
    async def test_a_team_asks_its_ensembles_and_sees_no_others(
        self, nodes: Nodes, keys: Keys
    ) -> None:
        key = keys.new("search")
        node = await nodes.start("a", Line(answer=PARIS))
        async with tenanted(node, keys, teams={"search": {"ensembles": ["two"]}}) as mesh:
            listed = await mesh.stub.ListEnsembles(pb.ListEnsemblesRequest(), metadata=bearing(key))
            assert [one.name for one in listed.ensembles] == ["two"]
            assert await text_of(begin(mesh, key, ensemble="")) == PARIS
            error = await refusal(begin(mesh, key))
            assert isinstance(error, Forbidden)
            assert error.message == "ensemble: search may not ask one, but: two"
            missing = await refusal(begin(mesh, key, ensemble="three"))
            assert isinstance(missing, NotFound)
            assert "one" not in missing.message
            assert await outcomes(mesh, "search", "one") == {"forbidden": 1}
            assert await outcomes(mesh, "search", "unknown") == {}


class TestHowMuch:
    async def test_requests_a_minute(self, nodes: Nodes, keys: Keys) -> None:
        key = keys.new("search")
        node = await nodes.start("a", Line(answer=PARIS))
        teams = {"search": {"requests_per_minute": 2}, "anonymous": {}}
        async with tenanted(node, keys, anonymous="allow", teams=teams) as mesh:
            for _ in range(2):
                assert await text_of(begin(mesh, key)) == PARIS
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await text_of(begin(mesh, key))
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            retry = error_details_pb2.RetryInfo()
            details = dict(refused.value.trailing_metadata())["grpc-status-details-bin"]
            status = status_pb2.Status.FromString(details)
            assert any(detail.Unpack(retry) for detail in status.details)
            error = from_rpc_error(refused.value)
            assert isinstance(error, RateLimited)
            assert 0 < error.retry_after_seconds == retry.retry_delay.seconds <= 60
            assert error.metadata["limit"] == "requests_per_minute"
            assert await text_of(begin(mesh)) == PARIS, "others are not limited by it"
            assert await outcomes(mesh, "search") == {"ok": 2, "rate_limited": 1}

    async def test_of_two_replicas_each_allows_half(self, nodes: Nodes, keys: Keys) -> None:
        key = keys.new("search")
        node = await nodes.start("a", Line(answer=PARIS))
        teams = {"search": {"requests_per_minute": 2}}
        async with tenanted(node, keys, replicas=2, teams=teams) as mesh:
            await text_of(begin(mesh, key))
            assert isinstance(await refusal(begin(mesh, key)), RateLimited)

    async def test_tokens_a_minute_count_when_the_answer_ends(
        self, nodes: Nodes, keys: Keys
    ) -> None:
        key = keys.new("search")
        node = await nodes.start("a", Line(answer=PARIS), hold_from=1)
        teams = {"search": {"output_tokens_per_minute": 3}}
        async with tenanted(node, keys, teams=teams) as mesh:
            first, second = begin(mesh, key), begin(mesh, key)
            for call in (first, second):
                await call.read()
                assert (await call.read()).segment_committed.token_count == 2
            first.cancel()  # two of three tokens
            await becomes(lambda: _one_in_flight(mesh))
            third = begin(mesh, key)
            await third.read()
            second.cancel()  # four
            await becomes(lambda: _one_in_flight(mesh))
            error = await refusal(begin(mesh, key))
            assert isinstance(error, RateLimited)
            assert error.metadata["limit"] == "output_tokens_per_minute"
            third.cancel()

    @pytest.mark.parametrize("how", ["cancelled", "failed", "answered"])
    async def test_a_place_is_free_again_however_an_answer_ends(
        self, nodes: Nodes, keys: Keys, how: str
    ) -> None:
        key = keys.new("search")
        node = await nodes.start("a", Line(answer=PARIS), hold_from=1)
        spare = await nodes.start("b", Line(answer=PARIS))
        teams = {"search": {"requests_in_flight": 1}}
        top = {
            "members": {
                name: {"endpoints": [n.address]} for name, n in (("a", node), ("b", spare))
            },
            "ensembles": {
                "one": {"members": ["a"], "segment_tokens": 2},
                "two": {"members": ["b"]},
            },
        }
        async with tenanted(node, keys, top=top, teams=teams) as mesh:
            running = begin(mesh, key)
            await node.comes_to_wait()
            error = await refusal(begin(mesh, key, ensemble="two"))
            assert isinstance(error, RateLimited)
            assert error.metadata["limit"] == "requests_in_flight"
            if how == "cancelled":
                running.cancel()
            elif how == "failed":
                await node.kill()
                with pytest.raises(grpc.aio.AioRpcError):
                    await text_of(running)
            else:
                node.backend.opened.set()
                await text_of(running)
            await mesh.becomes_idle()
            assert await text_of(begin(mesh, key, ensemble="two")) == PARIS

    async def test_where_the_fuser_is_full_priority_waits_in_front(
        self, nodes: Nodes, keys: Keys
    ) -> None:
        low, high = keys.new("low"), keys.new("high")
        node = await nodes.start("a", Line(answer=PARIS), hold_from=1)
        limits = {"requests_in_flight": 1, "requests_waiting": 2, "waiting_seconds": 60.0}
        teams = {"low": {}, "high": {"priority": 1000}}
        async with tenanted(node, keys, top={"limits": limits}, teams=teams) as mesh:
            order: list[str] = []

            async def ask(name: str, key: str) -> None:
                events = aiter(begin(mesh, key))
                await anext(events)
                order.append(name)
                async for _ in events:
                    pass

            async def come(name: str, key: str, in_flight: int) -> asyncio.Task[None]:
                task = asyncio.create_task(ask(name, key))

                async def there() -> bool:
                    return await mesh.metric("specfuse_requests_in_flight") == in_flight

                await becomes(there)
                return task

            tasks = [await come("running", low, 1)]
            await node.comes_to_wait()
            tasks += [await come("low", low, 2), await come("high", high, 3)]
            assert await mesh.metric("specfuse_requests_waiting") == 2
            assert isinstance(await refusal(begin(mesh, low)), Overloaded)
            node.backend.opened.set()
            await asyncio.gather(*tasks)
            assert order == ["running", "high", "low"]


class TestAccounts:
    async def test_a_line_a_request_without_any_text(
        self, nodes: Nodes, keys: Keys, tmp_path: Path
    ) -> None:
        key, ledger = keys.new("search"), tmp_path / "accounts.jsonl"
        node = await nodes.start("a", Line(answer=PARIS))
        async with tenanted(node, keys, accounting={"file": str(ledger)}) as mesh:
            call = begin(mesh, key, raw_prompt="a secret question")
            await text_of(call)
            ids = dict(await call.initial_metadata())
            await refusal(begin(mesh, key, ensemble="three"))
            unknown = begin(mesh)
            await refusal(unknown)
            assert dict(await unknown.initial_metadata())["x-request-id"]
            senseless = begin(mesh, key, overrides=pb.Overrides(statistic=99))  # type: ignore[arg-type]
            await refusal(senseless)
            its_ids = dict(await senseless.initial_metadata())
            labels = {"team": "search", "ensemble": "one"}
            assert await mesh.metric("specfuse_output_tokens_total", **labels) == 6
            assert await mesh.metric("specfuse_prompt_tokens_total", **labels) == 3
            assert await mesh.metric("specfuse_team_calls_total", **labels) == 3
        answered, refused, not_understood = map(json.loads, ledger.read_text().splitlines())
        assert answered.pop("seconds") > 0
        assert datetime.fromisoformat(answered.pop("time")).tzinfo
        assert answered == {
            "request_id": ids["x-request-id"],
            "team": "search",
            "key": id_of(key),
            "ensemble": "one",
            "outcome": "ok",
            "prompt_tokens": 3,
            "output_tokens": 6,
            "calls_made": 3,
            "calls_avoided": 3,
        }
        assert (refused["outcome"], refused["team"]) == ("not_found", "search")
        assert not_understood["outcome"] == "invalid_argument"
        assert not_understood["request_id"] == its_ids["x-request-id"]
        for text in ("secret", "capital", key, digest_of(key)):
            assert text not in ledger.read_text()

    async def test_a_full_disk_fails_no_request(self, nodes: Nodes, keys: Keys) -> None:
        key = keys.new("search")
        node = await nodes.start("a", Line(answer=PARIS))
        async with tenanted(node, keys, accounting={"file": "/dev/full"}) as mesh:
            assert await text_of(begin(mesh, key)) == PARIS

            async def lost() -> bool:
                return await mesh.metric("specfuse_accounting_lines_lost_total") == 1

            await becomes(lost)


class TestClients:
    @pytest.mark.parametrize("how", ["argument", "environment"])
    async def test_both_clients_send_a_key(
        self, nodes: Nodes, keys: Keys, monkeypatch: pytest.MonkeyPatch, how: str
    ) -> None:
        key = keys.new("search")
        if how == "environment":
            monkeypatch.setenv("SPECFUSE_API_KEY", key)
        given = {"api_key": key} if how == "argument" else {}
        node = await nodes.start("a", Line(answer=PARIS))
        async with tenanted(node, keys) as mesh:
            async with AsyncClient(mesh.fuser.address, **given) as client:
                assert (await client.generate("?", ensemble="one")).text == PARIS
                assert [one.name for one in await client.ensembles()] == ["one", "two"]
            with Client(mesh.fuser.address, **given) as blocking:
                answer = await asyncio.to_thread(blocking.generate, "?", ensemble="one")
            assert answer.text == PARIS

    def test_no_client_sends_it_to_others_in_plain_text(self) -> None:
        for kind in (Client, AsyncClient):
            with pytest.raises(Misconfigured, match="in plain text"):
                kind("fuser.example:50050", api_key=new_key())


async def _refused(mesh: FuserMesh, key: str) -> bool:
    try:
        await mesh.stub.ListEnsembles(pb.ListEnsemblesRequest(), metadata=bearing(key))
    except grpc.aio.AioRpcError as error:
        return error.code() is grpc.StatusCode.UNAUTHENTICATED
    return False


async def _one_in_flight(mesh: FuserMesh) -> bool:
    return await mesh.metric("specfuse_requests_in_flight") == 1
