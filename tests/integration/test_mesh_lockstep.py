"""Replicas of several revisions: none of them answers a query that another began to answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection
from typing import Any

import grpc
import pytest

from fuser_service.mesh import replica
from fuser_service.mesh.discovery.port import Endpoint
from fuser_service.mesh.member import GrpcMember
from fuser_service.mesh.participant import GrpcParticipant
from fuser_service.mesh.pool import Hold
from fuser_service.mesh.replica import Replica
from model_service.backends.scripted.settings import Line
from model_service.doors.grpc.servicer import ModelServicer
from specfuse.errors import DeadlineExceeded, RevisionLost, Unavailable
from specfuse.v1 import fuser_service_pb2 as pb
from tests.support.fuser_mesh import PATIENCE_SECONDS, Node, Nodes, WithoutStreams, open_fuser
from tests.support.grpc_member import (
    ChangingDiscovery,
    ask,
    calls_of,
    go_on,
    member_at,
    member_of,
    until,
)
from tests.support.link import Link

ANSWER = Line(answer="so it is and so it was")
OLD, NEW = "old", "new"


@pytest.fixture
async def nodes() -> AsyncIterator[Nodes]:
    async with Nodes() as nodes:
        yield nodes


async def known(member: GrpcMember, revisions: int) -> None:
    """Returns once the member's replicas said of how many revisions they are."""
    await until(lambda: member.revisions() == revisions)


async def begun_at(member: GrpcMember, node: Node) -> GrpcParticipant:
    """A query that this node answered first."""
    for number in range(1000):
        query = member.join(f"s{number}")
        before = len(node.backend.sessions)
        await go_on(query, f"s{number}")
        if len(node.backend.sessions) > before:
            return query
    raise AssertionError("no session goes there")


async def test_a_query_moves_to_a_replica_of_its_revision_only(nodes: Nodes) -> None:
    first, second = [await nodes.start("a", ANSWER, revision=OLD) for _ in range(2)]
    others = [await nodes.start("a", ANSWER, revision=NEW) for _ in range(4)]
    async with member_of(first, second, *others) as member:
        await known(member, 2)
        query = await begun_at(member, first)
        before = calls_of(*others)
        await first.kill()
        for _ in range(5):
            await go_on(query)
        assert second.backend.sessions[-5:] == ["s"] * 5
        assert calls_of(*others) == before


async def test_in_a_rollout_a_query_goes_on_at_what_is_about_to_end_as_well(nodes: Nodes) -> None:
    first, second = [await nodes.start("a", ANSWER, revision=OLD) for _ in range(2)]
    new = await nodes.start("a", ANSWER, revision=NEW)
    discovery = ChangingDiscovery(first, second)
    async with member_of(discovery=discovery) as member:
        query = await begun_at(member, first)
        ending = [Endpoint(node.address, terminating=True) for node in (first, second)]
        discovery.say(*ending, Endpoint(new.address))
        await known(member, 2)
        await first.kill()
        assert (await go_on(query)).text == "so it"
        assert second.backend.sessions[-1] == "s"
        assert calls_of(new) == [0]


async def test_with_other_revisions_left_the_query_is_done_with_the_member_and_the_next_is_not(
    nodes: Nodes,
) -> None:
    old = await nodes.start("a", ANSWER, revision=OLD)
    new = await nodes.start("a", ANSWER, revision=NEW)
    discovery = ChangingDiscovery(old)
    async with member_of(discovery=discovery) as member:
        query = await begun_at(member, old)
        discovery.change(new)
        await until(lambda: member._pool.addresses == (new.address,))
        await known(member, 1)
        with pytest.raises(RevisionLost, match="than the query began with, old on scripted"):
            await go_on(query)
        assert member._shared.observer == {"revision lost": 1}
        assert calls_of(new) == [0]
        assert (await ask(member)).text == "so it"


async def test_a_replica_that_may_come_back_is_waited_for(nodes: Nodes) -> None:
    old = await nodes.start("a", ANSWER, revision=OLD)
    new = await nodes.start("a", ANSWER, revision=NEW)
    async with member_of(old, new) as member:
        await known(member, 2)
        query = await begun_at(member, old)
        await old.kill()
        for _ in range(2):
            with pytest.raises(Unavailable) as raised:
                await go_on(query)
            assert not isinstance(raised.value, RevisionLost)
        back = await nodes.start("a", ANSWER, revision=OLD, listen=old.address)
        await known(member, 2)
        await until(lambda: member._pool._replicas[old.address].ready)
        assert (await go_on(query)).text == "so it"
        assert calls_of(back) == [1]


async def test_a_replica_that_comes_back_as_another_is_another(nodes: Nodes) -> None:
    old = await nodes.start("a", ANSWER, revision=OLD)
    async with member_of(old) as member:
        query = await begun_at(member, old)
        await old.kill()
        new = await nodes.start("a", ANSWER, revision=NEW, listen=old.address)
        await until(lambda: member._pool.lineages.keys() != set() and is_of(member, NEW))
        with pytest.raises(RevisionLost):
            await go_on(query)
        assert calls_of(new) == [0]
        assert (await ask(member)).text == "so it"


def is_of(member: GrpcMember, *revisions: str) -> bool:
    """Whether the replicas that serve are of just these revisions."""
    return {lineage.revision for lineage in member._pool.lineages} == set(revisions)


async def test_a_call_that_is_late_is_made_at_another_of_its_revision_only(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = await nodes.start("a", ANSWER, revision=OLD)
    others = [await nodes.start("a", ANSWER, revision=NEW) for _ in range(3)]
    async with member_of(slow, *others) as member:
        await known(member, 2)
        query = await begun_at(member, slow)
        before = calls_of(*others)
        looked_for = asyncio.Event()
        pick = member._pool.pick

        def looking(hold: Hold, without: Collection[str]) -> Replica | None:
            if without:
                asyncio.get_running_loop().call_soon(looked_for.set)
            return pick(hold, without)

        monkeypatch.setattr(member._pool, "pick", looking)
        slow.backend.hold_from = 0
        late = asyncio.create_task(go_on(query))
        await slow.comes_to_wait()
        await looked_for.wait()
        assert calls_of(*others) == before
        slow.backend.opened.set()
        assert (await late).text == "so it"


async def test_an_answer_of_what_became_another_meanwhile_does_not_count() -> None:
    # A stream cannot come to be answered by another process; a call of its own can.
    async with Nodes(WithoutStreams) as nodes:
        await _becomes_another_meanwhile(await nodes.start("a", ANSWER, revision=OLD))


async def _becomes_another_meanwhile(node: Node) -> None:
    async with member_of(node) as member:
        query = await begun_at(member, node)
        node.backend.hold_from = 0
        asked = asyncio.create_task(go_on(query))
        await node.comes_to_wait()
        member._pool._replicas[node.address]._identity.forget()  # as when a connection breaks
        node.backend.revision = NEW
        node.backend.opened.set()
        with pytest.raises(RevisionLost):
            await asked


async def test_an_answer_of_who_took_over_the_port_of_one_that_drains_does_not_count(
    nodes: Nodes,
) -> None:
    old = await nodes.start("a", ANSWER, revision=OLD)
    async with member_of(old) as member:
        query = await begun_at(member, old)
        old.backend.hold_from = 0
        in_flight = asyncio.create_task(ask(member))
        await old.comes_to_wait()
        draining = asyncio.create_task(old.server.drain(PATIENCE_SECONDS))
        await until(lambda: not member._pool._replicas[old.address].hopeful)
        await nodes.start("a", ANSWER, revision=NEW, listen=old.address)
        with pytest.raises(RevisionLost):
            await go_on(query)
        assert (await ask(member)).text == "so it"
        old.backend.opened.set()
        assert (await in_flight).text == "so it"
        await draining


async def until_lost(query: GrpcParticipant) -> None:
    """Goes on with the query until that fails."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            await go_on(query)


async def test_an_answer_over_a_newer_connection_to_another_does_not_count(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As behind one address for several: what is in flight, health's watch too, is left behind."""
    monkeypatch.setattr("specfuse.rpc.server._AGE_SECONDS", 1)
    old = await nodes.start("a", ANSWER, revision=OLD)
    new = await nodes.start("a", ANSWER, revision=NEW)
    async with Link(old.address) as link, member_at(link.address) as member:
        query = member.join("s")
        await go_on(query)
        link.lead_to(new.address)
        with pytest.raises(RevisionLost):
            await until_lost(query)  # its connection is replaced when it is a second old


def refusing(code: grpc.StatusCode) -> Any:
    """A method that always ends so."""

    async def refuse(_: Any, __: Any, context: Any) -> None:
        await context.abort(code, "out of luck")

    return refuse


@pytest.mark.parametrize("code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.RESOURCE_EXHAUSTED])
async def test_a_replica_that_fails_to_say_what_it_is_is_not_one_that_does_not_tell(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch, code: grpc.StatusCode
) -> None:
    told = await nodes.start("a", ANSWER)
    with monkeypatch.context() as failing:
        failing.setattr(ModelServicer, "GetModel", refusing(code))
        silent = await nodes.start("a", ANSWER)
    async with member_of(told, silent) as member:
        for number in range(20):
            assert (await ask(member, f"s{number}")).text == "so it"
    assert calls_of(told, silent) == [20, 0]


async def test_a_broken_connection_to_the_same_revision_costs_no_answer(nodes: Nodes) -> None:
    node = await nodes.start("a", ANSWER, revision=OLD, hold_from=0)
    async with Link(node.address) as link, member_at(link.address) as member:
        query = member.join("s")
        for _ in range(3):
            asked = asyncio.create_task(go_on(query))
            await node.comes_to_wait()
            link.reset()
            await node.comes_to_wait()
            node.backend.opened.set()
            assert (await asked).text == "so it"
            node.backend.opened.clear()


async def test_a_call_in_flight_at_a_replica_that_drains_counts(nodes: Nodes) -> None:
    node = await nodes.start("a", ANSWER, revision=OLD, hold_from=0)
    async with member_of(node) as member:
        asked = asyncio.create_task(ask(member))
        await node.comes_to_wait()
        draining = asyncio.create_task(node.server.drain(PATIENCE_SECONDS))
        await until(lambda: not member._pool._replicas[node.address].hopeful)
        node.backend.opened.set()
        assert (await asked).text == "so it"
        await draining


@pytest.mark.parametrize("code", replica._DOES_NOT_TELL)
async def test_replicas_that_do_not_tell_are_of_one_revision(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch, code: grpc.StatusCode
) -> None:
    told = await nodes.start("a", ANSWER, revision=NEW)
    async with member_of(told) as member:
        await known(member, 1)
    monkeypatch.setattr(ModelServicer, "GetModel", refusing(code))
    first, second = [await nodes.start("a", ANSWER, revision=each) for each in (OLD, NEW)]
    async with member_of(first, second) as member:
        await known(member, 1)
        query = await begun_at(member, first)
        await first.kill()
        assert (await go_on(query)).text == "so it"
        assert calls_of(second)[0] >= 1


class Silence:
    """Has GetModel never answer at those of the nodes started from now on that are `silent`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = asyncio.Event()
        self.silent: list[Node] = []
        get_model = ModelServicer.GetModel

        async def answer(servicer: Any, request: Any, context: Any) -> Any:
            if any(servicer._service._backend is node.backend for node in self.silent):
                self.asked.set()
                await asyncio.Event().wait()
            return await get_model(servicer, request, context)

        monkeypatch.setattr(ModelServicer, "GetModel", answer)


async def test_a_replica_that_does_not_say_what_it_is_hands_its_calls_to_another(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fuser_service.mesh.replica._IDENTIFY_SECONDS", 0.1)
    silence = Silence(monkeypatch)
    silent, other = [await nodes.start("a", ANSWER) for _ in range(2)]
    silence.silent.append(silent)
    async with member_of(silent, other) as member:
        for number in range(20):
            assert (await ask(member, f"s{number}")).text == "so it"
    assert calls_of(silent, other) == [0, 20]


async def test_a_call_moves_when_its_replica_is_gone_before_it_said_what_it_is(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fuser_service.mesh.replica._IDENTIFY_SECONDS", 0.5)
    silence = Silence(monkeypatch)
    silent, other = [await nodes.start("a", ANSWER) for _ in range(2)]
    silence.silent.append(silent)
    discovery = ChangingDiscovery(silent)
    async with member_of(discovery=discovery) as member:
        asked = asyncio.create_task(ask(member))
        await silence.asked.wait()
        discovery.change(other)
        assert (await asked).text == "so it"


async def test_a_call_ends_by_its_deadline_whatever_its_replica_does_not_say(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    silence = Silence(monkeypatch)
    silent = await nodes.start("a", ANSWER)
    silence.silent.append(silent)
    async with member_of(silent) as member:
        with pytest.raises(DeadlineExceeded):
            await ask(member, seconds=0.2)


async def test_that_revisions_are_mixed_is_told_once(
    nodes: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    old, new, newer = [await nodes.start("a", ANSWER, revision=each) for each in (OLD, NEW, NEW)]
    discovery = ChangingDiscovery(old)
    async with member_of(discovery=discovery) as member:
        await known(member, 1)
        discovery.change(old, new)
        await known(member, 2)
        discovery.change(old, new, newer)
        await until(lambda: member._pool.lineages.total() == 3)
        discovery.change(new, newer)
        await known(member, 1)
    said = [one.message for one in caplog.records if "revision" in one.message]
    assert [one.partition(":")[2].partition(",")[0] for one in said] == [
        " its replicas are of several revisions",
        " its replicas are of one revision again",
    ]
    assert "1 of new on scripted with tokenizer" in said[0]


async def test_an_answer_goes_on_without_a_member_whose_revision_is_gone(nodes: Nodes) -> None:
    text = " ".join(f"word{number}" for number in range(20))
    steady = await nodes.start("b", Line(answer=text), hold_from=2)
    old = await nodes.start("a", Line(answer=text), revision=OLD, hold_from=1)
    settings = {"a": {"endpoints": [old.address]}, "b": steady}
    async with open_fuser(
        settings, segment_tokens=2, exit={"policy": "none"}, straggler_grace_seconds=10.0
    ) as mesh:
        await mesh.becomes_ready("a", "b")
        await mesh.metric_becomes(1, "specfuse_member_revisions", model_name="a")
        asked = asyncio.create_task(mesh.ask())
        await old.comes_to_wait()
        await old.kill()
        await steady.comes_to_wait()
        await nodes.start("a", Line(answer=text), revision=NEW, listen=old.address)
        await mesh.becomes_ready("a", "b")
        steady.backend.opened.set()
        answer = await asked
        assert answer.text == text
        (lost,) = answer.finished.lost
        assert (lost.member, lost.reason) == ("a", pb.DEPARTURE_REASON_FAILED)
        assert lost.detail.startswith("REVISION_LOST: only replicas of other revisions")
        assert await mesh.metric("specfuse_member_revisions_lost_total", model_name="a") == 1
        again = await mesh.ask()
        assert again.text == text
        assert not again.finished.degraded
