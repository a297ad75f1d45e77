"""A member over real gRPC: which replica is asked, when another is, and what is learnt from it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Literal

import grpc
import pytest

from fuser_service.core.types import Candidate, Context
from fuser_service.mesh.budget import MOST_SAVED, SHARE
from fuser_service.mesh.discovery.port import Endpoint
from fuser_service.mesh.member import GrpcMember
from model_service.backends.scripted.settings import Line
from model_service.doors.grpc.servicer import ModelServicer
from specfuse.deadline import Deadline
from specfuse.errors import DeadlineExceeded, InvalidArgument, ModelFailure, Overloaded, Unavailable
from specfuse.rpc.channels import open_channel
from tests.support.fuser_mesh import PATIENCE_SECONDS, Node, Nodes, WithoutStreams
from tests.support.grpc_member import (
    ChangingDiscovery,
    ask,
    calls_of,
    go_on,
    member_at,
    member_of,
    ranked_first,
    until,
)
from tests.support.link import Link

ANSWER = Line(answer="so it is")
Trouble = Literal["", "unavailable", "overloaded", "model_failure"]


@pytest.fixture(params=[ModelServicer, WithoutStreams])
async def nodes(request: pytest.FixtureRequest) -> AsyncIterator[Nodes]:
    async with Nodes(request.param) as nodes:
        yield nodes


async def test_it_proposes_and_scores(nodes: Nodes) -> None:
    async with member_of(await nodes.start("a", ANSWER)) as member:
        proposal = await ask(member)
        candidates = [Candidate("so", finished=False), Candidate("no", finished=True)]
        scores = await member.join("s").score(
            Context("?", (), "s"), candidates, deadline=Deadline.after(PATIENCE_SECONDS)
        )
    assert (proposal.text, proposal.token_count) == ("so it", 2)
    assert [score.token_count for score in scores] == [1, 2]
    assert scores[0].probability_mean == pytest.approx(0.9)


async def test_a_session_keeps_its_replica_and_sessions_spread(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "fuser_service.mesh.pace.SHORTEST_SECONDS", PATIENCE_SECONDS
    )  # none is late
    replicas = [await nodes.start("a", ANSWER) for _ in range(3)]
    async with member_of(*replicas) as member:
        for session in range(30):
            for _ in range(2):
                await ask(member, f"session {session}")
    seen = [set(node.backend.sessions) for node in replicas]
    assert sum(map(len, seen)) == 30
    assert all(seen)


async def test_two_fusers_choose_alike(nodes: Nodes) -> None:
    replicas = [await nodes.start("a", ANSWER) for _ in range(3)]
    async with member_of(*replicas) as one, member_of(*reversed(replicas)) as other:
        for session in range(10):
            await ask(one, f"session {session}")
            await ask(other, f"session {session}")
    assert sum(len(set(node.backend.sessions)) for node in replicas) == 10


async def test_unavailable_moves_the_call_and_then_the_session(nodes: Nodes) -> None:
    failing = await nodes.start("a", Line(fails="unavailable"))
    working = await nodes.start("a", ANSWER)
    async with member_of(failing, working) as member:
        for session in range(12):
            assert (await ask(member, f"session {session}")).text == "so it"
        before = calls_of(failing)
        for session in range(12):
            await ask(member, f"session {session}")
    assert 0 < before[0] <= 3  # then its breaker is open
    assert calls_of(failing) == before


async def test_a_replica_without_room_hands_the_call_to_another(nodes: Nodes) -> None:
    full = await nodes.start("a", Line(fails="overloaded"))
    other = await nodes.start("a", ANSWER)
    async with member_of(full, other) as member:
        for number in range(20):
            assert (await ask(member, f"s{number % 4}")).text == "so it"
        assert member.ready
    assert calls_of(other) == [20]


async def test_where_no_replica_has_room_calls_are_moved_no_more_than_the_budget_lets_them(
    nodes: Nodes,
) -> None:
    replicas = [await nodes.start("a", Line(fails="overloaded")) for _ in range(2)]
    async with member_of(*replicas) as member:
        for _ in range(40):
            with pytest.raises(Overloaded):
                await ask(member)
    assert sum(calls_of(*replicas)) <= 40 + MOST_SAVED + 40 * SHARE


async def test_other_errors_are_the_members_answer(nodes: Nodes) -> None:
    replicas = [await nodes.start("a", Line(fails="model_failure")) for _ in range(2)]
    async with member_of(*replicas) as member:
        for _ in range(5):
            with pytest.raises(ModelFailure):
                await ask(member)
        assert member.ready  # it answers, if only with errors
    assert sorted(calls_of(*replicas)) == [0, 5]


async def test_a_refusal_names_what_the_model_refused(nodes: Nodes) -> None:
    node = await nodes.start("a", Line(when="this only", answer="x"))
    async with member_of(node) as member:
        with pytest.raises(InvalidArgument, match="no line of the script applies"):
            await ask(member)


async def test_when_no_replica_can_be_reached_the_last_failure_is_told(nodes: Nodes) -> None:
    replicas = [await nodes.start("a", ANSWER) for _ in range(2)]
    addresses = [node.address for node in replicas]
    for node in replicas:
        await node.kill()
    async with member_of(*replicas) as member:
        with pytest.raises(Unavailable) as raised:
            await ask(member)
        assert "could not be reached" in raised.value.message
        assert not any(address in raised.value.message for address in addresses), "not for callers"
        await until(lambda: not member.ready)


async def test_a_member_without_endpoints_is_unavailable(nodes: Nodes) -> None:
    discovery = ChangingDiscovery()
    async with member_of(discovery=discovery) as member:
        assert not member.ready
        with pytest.raises(Unavailable, match="no replica can be reached"):
            await ask(member)


async def test_a_member_whose_replicas_are_not_known_yet_does_not_hold_up_the_start(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fuser_service.mesh.member._DISCOVERY_SECONDS", 0.05)
    discovery = ChangingDiscovery()
    discovery._updates.get_nowait()
    async with member_of(discovery=discovery) as member:
        assert not member.ready
        discovery.change(await nodes.start("a", ANSWER))
        await until(lambda: member.ready)
        assert (await ask(member)).text == "so it"


class BreakingDiscovery(ChangingDiscovery):
    """Breaks once it has told of its endpoints, as often as a test wants."""

    async def watch(self) -> AsyncIterator[tuple[Endpoint, ...]]:
        yield await self._updates.get()
        raise ValueError("a line that is no endpoint")


async def test_a_discovery_that_breaks_is_watched_anew(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("fuser_service.mesh.member._WATCH_AGAIN_SECONDS", 0.01)
    first, second = [await nodes.start("a", ANSWER) for _ in range(2)]
    discovery = BreakingDiscovery(first)
    async with member_of(discovery=discovery) as member:
        assert (await ask(member)).text == "so it"
        discovery.change(second)
        await until(lambda: member._pool.addresses == (second.address,))
    assert "a: finding its replicas failed" in caplog.text


async def test_a_draining_replica_gets_no_new_calls(nodes: Nodes) -> None:
    replicas = [await nodes.start("a", ANSWER) for _ in range(2)]
    async with member_of(*replicas) as member:
        await ask(member)
        (pinned,) = [node for node in replicas if node.backend.sessions]
        (other,) = [node for node in replicas if node is not pinned]
        pinned.backend.hold_from = 0
        in_flight = asyncio.create_task(ask(member))
        await pinned.comes_to_wait()
        draining = asyncio.create_task(pinned.server.drain(PATIENCE_SECONDS))
        await until(lambda: not member._pool._replicas[pinned.address].hopeful)

        assert (await ask(member)).text == "so it"

        assert calls_of(pinned, other) == [2, 1]
        pinned.backend.opened.set()
        assert (await in_flight).text == "so it"
        await draining


def said_to_end(leaving: Node, *staying: Node) -> list[Endpoint]:
    return [
        Endpoint(leaving.address, terminating=True),
        *(Endpoint(node.address) for node in staying),
    ]


async def test_a_replica_that_is_ending_keeps_its_sessions_and_gets_no_new_ones(
    nodes: Nodes,
) -> None:
    leaving, staying = [await nodes.start("a", ANSWER) for _ in range(2)]
    discovery = ChangingDiscovery(leaving, staying)
    async with member_of(discovery=discovery) as member:
        begun = {f"old {number}": member.join(f"old {number}") for number in range(12)}
        for session, query in begun.items():
            await go_on(query, session)
        kept = list(leaving.backend.sessions)
        assert kept
        discovery.say(*said_to_end(leaving, staying))
        await until(lambda: member._pool._replicas[leaving.address].endpoint.terminating)

        for session in (*begun, *(f"new {number}" for number in range(12))):
            await ask(member, session)
        assert leaving.backend.sessions == kept, "the queries of the old sessions are new"
        for session, query in begun.items():
            await go_on(query, session)
        assert leaving.backend.sessions == kept * 2

        draining = asyncio.create_task(leaving.server.drain(PATIENCE_SECONDS))
        await until(lambda: not member._pool._replicas[leaving.address].hopeful)
        for session in kept:
            assert (await go_on(begun[session], session)).text == "so it"
        assert leaving.backend.sessions == kept * 2, "they moved when it no longer served"
        await draining


async def test_a_member_of_which_all_is_ending_is_not_ready_for_new_sessions(
    nodes: Nodes,
) -> None:
    node = await nodes.start("a", ANSWER)
    discovery = ChangingDiscovery(node)
    async with member_of(discovery=discovery) as member:
        await until(lambda: member.ready)
        query = member.join("old")
        await go_on(query, "old")
        discovery.say(*said_to_end(node))
        await until(lambda: not member.ready)
        assert (await go_on(query, "old")).text == "so it"
        with pytest.raises(Unavailable, match="no replica can be reached of the 1"):
            await ask(member, "new")


async def test_sessions_begin_in_the_fusers_own_zone_and_beyond_when_it_is_away(
    nodes: Nodes,
) -> None:
    near, far = [await nodes.start("a", ANSWER) for _ in range(2)]
    discovery = ChangingDiscovery()
    async with member_of(discovery=discovery) as member:
        discovery.say(Endpoint(near.address, "west", near=True), Endpoint(far.address, "east"))
        await until(lambda: len(member._pool.addresses) == 2)
        await answered(member, 12)
        assert calls_of(near, far) == [12, 0]
        await near.kill()
        await until(lambda: not member._pool._replicas[near.address].hopeful)
        await answered(member, 12)
        assert calls_of(near, far) == [12, 12]


async def test_replicas_come_and_go_while_it_runs(nodes: Nodes) -> None:
    first, second = [await nodes.start("a", ANSWER) for _ in range(2)]
    discovery = ChangingDiscovery(first)
    async with member_of(discovery=discovery) as member:
        first.backend.hold_from = 0
        in_flight = asyncio.create_task(ask(member))
        await first.comes_to_wait()

        discovery.change(second)
        await until(lambda: member._pool._replicas.keys() == {second.address})
        assert (await ask(member)).text == "so it"

        assert calls_of(second) == [1]
        first.backend.opened.set()
        assert (await in_flight).text == "so it"


async def test_a_call_moves_when_its_channel_is_closed_under_it(nodes: Nodes) -> None:
    replicas = [await nodes.start("a", ANSWER) for _ in range(2)]
    async with member_of(*replicas) as member:
        for node in replicas:
            node.backend.hold_from = 0
        asked = asyncio.create_task(ask(member))
        await until(lambda: sum(calls_of(*replicas)) == 1)
        (asked_first,) = [node for node in replicas if node.backend.sessions]
        (other,) = [node for node in replicas if node is not asked_first]
        other.backend.opened.set()

        await member._pool._replicas[asked_first.address].close(grace=0)

        assert (await asked).text == "so it"


async def test_a_replica_that_comes_back_is_asked_again(nodes: Nodes) -> None:
    node = await nodes.start("a", ANSWER)
    async with member_of(node) as member:
        await ask(member)
        await node.kill()
        await until(lambda: not member.ready)
        for _ in range(4):  # until its breaker is open
            with pytest.raises(Unavailable):
                await ask(member)

        await nodes.start("a", ANSWER, listen=node.address)
        await until(lambda: member.ready)
        assert (await ask(member)).text == "so it"


async def test_the_deadline_is_passed_on_and_says_nothing_of_the_endpoint(nodes: Nodes) -> None:
    node = await nodes.start("a", ANSWER, hold_from=0)
    async with member_of(node) as member:
        for _ in range(4):
            with pytest.raises(DeadlineExceeded):
                await ask(member, seconds=0.2)
            await node.is_cancelled()
        node.backend.opened.set()
        assert (await ask(member)).text == "so it"
    assert all(deadline.remaining < 0.2 for deadline in node.backend.deadlines[:4])


async def test_cancelling_a_call_ends_it_at_the_replica(nodes: Nodes) -> None:
    node = await nodes.start("a", ANSWER, hold_from=0)
    async with member_of(node) as member:
        asked = asyncio.create_task(ask(member))
        await node.comes_to_wait()
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        await node.is_cancelled()
        await until(lambda: member.ready)


# Slow replicas, broken connections


async def answered(member: GrpcMember, count: int) -> None:
    """Asks so many new sessions, one after the other."""
    for number in range(count):
        assert (await ask(member, f"s{number}")).text == "so it"


async def test_a_call_that_is_late_is_made_at_another_replica_too(nodes: Nodes) -> None:
    slow = await nodes.start("a", ANSWER, hold_from=0)
    fast = await nodes.start("a", ANSWER)
    async with member_of(slow, fast) as member:
        session = ranked_first(slow, fast)
        assert (await ask(member, session)).text == "so it"
        assert calls_of(slow, fast) == [1, 1]
        assert member._shared.observer == {"hedged": 1}
        await slow.is_cancelled()
        assert (await ask(member, session)).text == "so it"
        assert calls_of(slow, fast)[0] == 1, "the session stays with who answered"


async def test_a_replica_that_hangs_is_left_alone_and_tried_again(nodes: Nodes) -> None:
    hung = await nodes.start("a", ANSWER, hold_from=0)
    well = await nodes.start("a", ANSWER)
    async with member_of(hung, well) as member:
        await answered(member, 40)
        ejected = len(hung.backend.sessions)
        assert ejected <= 6, "three late calls, and a trial or two"
        hung.backend.opened.set()
        await until_asked(hung, member)


async def until_asked(node: Node, member: GrpcMember) -> None:
    """Asks new sessions until the node answers one."""
    before = len(node.backend.sessions)
    async with asyncio.timeout(PATIENCE_SECONDS):
        for number in itertools.count():
            await ask(member, f"again {number}")
            if len(node.backend.sessions) > before + 1:
                return
            await asyncio.sleep(0.02)


async def test_the_last_replica_is_never_left_alone_for_being_slow(nodes: Nodes) -> None:
    hung = await nodes.start("a", ANSWER, hold_from=0)
    well = await nodes.start("a", ANSWER)
    async with member_of(hung, well) as member:
        await answered(member, 20)
        await well.kill()
        waiting = asyncio.create_task(ask(member, "late is better than never"))
        await hung.comes_to_wait()
        hung.backend.opened.set()
        assert (await waiting).text == "so it"


async def test_when_all_are_slow_few_calls_are_made_twice(nodes: Nodes) -> None:
    both = [await nodes.start("a", ANSWER, hold_from=0) for _ in range(2)]
    async with member_of(*both) as member:
        calls = [asyncio.create_task(ask(member, f"s{number}")) for number in range(60)]
        await until(lambda: sum(calls_of(*both)) >= 60 + MOST_SAVED)
        for node in both:
            node.backend.opened.set()
        await asyncio.gather(*calls)
        assert sum(calls_of(*both)) <= 60 + MOST_SAVED + 60 * SHARE


async def test_a_connection_that_breaks_costs_no_answer(nodes: Nodes) -> None:
    node = await nodes.start("a", ANSWER, hold_from=0)
    async with Link(node.address) as link, member_at(link.address) as member:
        for _ in range(3):
            asked = asyncio.create_task(ask(member))
            await node.comes_to_wait()
            link.reset()
            await node.comes_to_wait()
            node.backend.opened.set()
            assert (await asked).text == "so it"
            node.backend.opened.clear()
        assert member._shared.observer == {"repeated": 3}


async def test_a_link_that_goes_dead_moves_its_calls(nodes: Nodes) -> None:
    one, two = [await nodes.start("a", ANSWER) for _ in range(2)]
    async with Link(one.address) as link, member_at(link.address, two.address) as member:
        await answered(member, 10)
        assert all(calls_of(one, two))
        link.freeze()
        await answered(member, 20)
        before = len(one.backend.sessions)
        link.thaw()
        async with asyncio.timeout(PATIENCE_SECONDS):
            for number in itertools.count():
                await ask(member, f"after {number}")
                if len(one.backend.sessions) > before:
                    break
                await asyncio.sleep(0.02)


class Channels:
    """Opens channels, and keeps them."""

    def __init__(self, address: str = "") -> None:
        self._address = address
        self.opened: list[grpc.aio.Channel] = []

    def __call__(self, endpoint: str) -> grpc.aio.Channel:
        self.opened.append(open_channel(self._address or endpoint))
        return self.opened[-1]

    def closed(self) -> bool:
        return all(
            channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN for channel in self.opened
        )


async def test_a_call_in_flight_stays_on_its_connection_and_later_ones_take_the_new(
    nodes: Nodes,
) -> None:
    node = await nodes.start("a", ANSWER, hold_from=0)
    before, after = Channels(), Channels()
    async with member_of(node, connect=before) as member:
        await until(lambda: member.ready)
        asked = asyncio.create_task(ask(member))
        await node.comes_to_wait()
        member.reconnect(after)
        (channel,) = after.opened
        await until(lambda: channel.get_state() is grpc.ChannelConnectivity.READY)
        await until(lambda: member.ready)
        assert not before.closed()
        node.backend.opened.set()
        assert (await asked).text == "so it"
        await until(before.closed)
        assert (await ask(member)).text == "so it"
        await until(lambda: member.ready)
    assert after.closed()


async def test_a_new_connection_is_not_taken_before_somebody_serves_there(nodes: Nodes) -> None:
    node = await nodes.start("a", ANSWER)
    before, nowhere, after = Channels(), Channels("127.0.0.1:9"), Channels()
    async with member_of(node, connect=before) as member:
        await until(lambda: member.ready)
        member.reconnect(nowhere)
        (channel,) = nowhere.opened
        await until(lambda: channel.get_state() is grpc.ChannelConnectivity.TRANSIENT_FAILURE)
        assert (await ask(member)).text == "so it"
        member.reconnect(after)
        await until(nowhere.closed)
        await until(before.closed)
        assert (await ask(member)).text == "so it"


async def test_a_member_stopped_while_it_connects_anew_closes_both_connections(
    nodes: Nodes,
) -> None:
    before, nowhere = Channels(), Channels("127.0.0.1:9")
    async with member_of(await nodes.start("a", ANSWER), connect=before) as member:
        member.reconnect(nowhere)
        await asyncio.sleep(0)
    assert (before.closed(), nowhere.closed()) == (True, True)
