"""The fuser service over real gRPC, with real members: answers, bad input, trouble, numbers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Any, get_args

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from fuser_service.core.commit import AvoidedBecause
from fuser_service.mesh.discovery.endpoints import discovery as endpoints
from model_service.backends.scripted.settings import Line
from specfuse.errors import (
    ContextTooLong,
    DeadlineExceeded,
    InvalidArgument,
    Misconfigured,
    NotFound,
    Overloaded,
    QuorumLost,
)
from specfuse.rpc.channels import open_channel
from specfuse.rpc.errors import from_rpc_error
from specfuse.rpc.tls import ClientTls, TlsFiles
from specfuse.v1 import fuser_service_pb2 as pb
from specfuse.v1 import prompt_pb2
from specfuse.v1.fuser_service_pb2_grpc import FuserServiceStub
from tests.support.certificates import OPENSSL, Authority
from tests.support.fuser_mesh import (
    PATIENCE_SECONDS,
    Answer,
    FuserMesh,
    Node,
    Nodes,
    open_fuser,
    open_mesh,
)

PARIS = "The capital of France is Paris and that of Spain is Madrid."
LYON = "The capital of France is Lyon and that of Spain is Madrid."
NOWHERE: dict[str, Any] = {"endpoints": ["127.0.0.1:9"]}
SEGMENTS: dict[str, Any] = {"statistic": pb.STATISTIC_GEOMETRIC}
"""Overrides that have whole segments voted on."""
MISSING = {"certificate": "/missing/certificate", "key": "/missing/key"}
USER, ASSISTANT, SYSTEM = prompt_pb2.ROLE_USER, prompt_pb2.ROLE_ASSISTANT, prompt_pb2.ROLE_SYSTEM


def open_careful_mesh() -> AbstractAsyncContextManager[tuple[FuserMesh, dict[str, Node]]]:
    """Three members, of which two know better; small limits."""
    limits = {"prompt_bytes": 200, "committed_segments": 8, "committed_bytes": 100}
    return open_mesh(
        {"a": PARIS, "b": LYON, "c": PARIS},
        segment_tokens=3,
        segment_tokens_limit=8,
        max_tokens_limit=100,
        max_tokens=50,
        top={"limits": limits},
    )


@pytest.fixture
async def mesh() -> AsyncIterator[FuserMesh]:
    """A mesh of the test's own."""
    async with open_careful_mesh() as (mesh, _):
        yield mesh


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_mesh() -> AsyncIterator[FuserMesh]:
    """A mesh that all bad input goes to: it must not mind."""
    async with open_careful_mesh() as (mesh, _):
        yield mesh


@pytest.fixture
async def nodes() -> AsyncIterator[Nodes]:
    """Starts members, and ends them after the test."""
    async with Nodes() as nodes:
        yield nodes


async def _with_one_killed(mesh: FuserMesh, node: Node) -> Answer:
    """The answer during which a member is killed: once it was asked for the third time."""
    node.backend.hold_from = 2
    asked = asyncio.create_task(mesh.ask())
    await node.comes_to_wait()
    await node.kill()
    return await asked


def said(*turns: tuple[prompt_pb2.Role.ValueType, str]) -> prompt_pb2.Conversation:
    return prompt_pb2.Conversation(
        messages=[prompt_pb2.Message(role=role, content=content) for role, content in turns]
    )


class TestAnswers:
    async def test_streams_started_a_segment_a_round_and_finished(self, mesh: FuserMesh) -> None:
        answer = await mesh.ask("Which?", session_id="s")

        assert answer.text == PARIS
        assert answer.started == pb.Started(ensemble="all", members=["a", "b", "c"], session_id="s")
        assert [one.round for one in answer.rounds] == list(range(1, len(answer.rounds) + 1))
        assert "".join(one.segment for one in answer.rounds) == PARIS
        assert answer.finished.reason == pb.FINISH_REASON_STOP
        assert answer.finished.rounds == len(answer.rounds)
        assert answer.finished.output_tokens == len(PARIS.split())
        assert not answer.finished.degraded

    async def test_a_round_says_who_proposed_what_and_how_it_was_judged(
        self, mesh: FuserMesh
    ) -> None:
        answer = await mesh.ask(overrides=pb.Overrides(exit_policy=pb.EXIT_POLICY_NONE, **SEGMENTS))
        second = answer.rounds[1]

        assert [one.text for one in second.candidates] == [" France is Paris", " France is Lyon"]
        best, other = second.candidates
        assert (best.proposers, other.proposers) == (["a", "c"], ["b"])
        assert best.share + other.share == pytest.approx(1.0)
        assert best.share > other.share
        assert [one.verifier for one in best.judgements] == ["a", "b", "c"]
        assert second.winner == "a"
        assert second.token_count == 3
        assert second.active == ["a", "b", "c"]
        assert 0 < second.timings.propose_seconds <= second.timings.total_seconds

    async def test_calls_made_and_avoided_add_up_to_two_a_member_and_round(
        self, mesh: FuserMesh
    ) -> None:
        """In a vote on segments. Whoever objects to a draft has the others asked once more."""
        finished = (await mesh.ask(overrides=pb.Overrides(**SEGMENTS))).finished
        propose, score = finished.propose_calls, finished.score_calls
        assert propose.made + propose.avoided == 3 * finished.rounds
        assert score.made + score.avoided == 3 * finished.rounds

    async def test_a_round_says_who_drafted_and_who_watched(self, mesh: FuserMesh) -> None:
        first, *others = (await mesh.ask()).rounds
        assert len(first.active) == 1 or first.objected
        for one in (first, *others):
            assert sorted([*one.active, *one.watched]) == ["a", "b", "c"]
            assert {*one.objected} <= {"a", "b", "c"}
        assert any(one.watched for one in others)

    async def test_a_conversation_is_passed_on_to_every_member(self, nodes: Nodes) -> None:
        line = Line(when="what now", answer="This.")
        async with open_fuser({"a": await nodes.start("a", line)}) as mesh:
            conversation = said((SYSTEM, ""), (USER, "hi"), (ASSISTANT, ""), (USER, "what now"))
            call = mesh.stub.Generate(pb.GenerateRequest(conversation=conversation))
            texts = [response.segment_committed.text async for response in call]
        assert "".join(texts) == "This."

    async def test_max_tokens_ends_it_with_length(self, mesh: FuserMesh) -> None:
        answer = await mesh.ask(max_tokens=4)
        assert answer.text == "The capital of France"
        assert answer.finished.reason == pb.FINISH_REASON_LENGTH
        assert answer.finished.output_tokens == 4

    @pytest.mark.parametrize("limits", [{"committed_segments": 2}, {"committed_bytes": 30}])
    async def test_its_most_segments_and_bytes_end_it_with_length(
        self, limits: dict[str, int]
    ) -> None:
        settings: dict[str, Any] = {"segment_tokens": 3, "top": {"limits": limits}}
        async with open_mesh({"a": PARIS}, **settings) as (mesh, _):
            answer = await mesh.ask()
            assert answer.text == "The capital of France is Paris"
            assert answer.finished.reason == pb.FINISH_REASON_LENGTH
            one = answer.rounds[0]
            rest = await mesh.ask(
                committed_segments=[one.segment], committed_tokens=one.token_count
            )
        assert one.text + rest.text == answer.text

    async def test_a_stop_string_ends_it_and_is_no_part_of_it(self, mesh: FuserMesh) -> None:
        answer = await mesh.ask(stop=[" is Paris"])
        assert answer.text == "The capital of France"
        assert answer.finished.reason == pb.FINISH_REASON_STOP

    async def test_an_interrupted_answer_is_resumed(self, mesh: FuserMesh) -> None:
        first = (await mesh.ask()).rounds[:2]
        rest = await mesh.ask(
            committed_segments=[one.segment for one in first],
            committed_tokens=sum(one.token_count for one in first),
        )
        assert "".join(one.text for one in first) + rest.text == PARIS

    async def test_a_resumed_answer_without_tokens_left_ends_at_once(self, mesh: FuserMesh) -> None:
        answer = await mesh.ask(
            committed_segments=["The capital of"], committed_tokens=3, max_tokens=3
        )
        assert (answer.text, answer.finished.rounds) == ("", 0)
        assert answer.finished.reason == pb.FINISH_REASON_LENGTH

    async def test_the_default_session_depends_on_the_prompt_alone(self, mesh: FuserMesh) -> None:
        sessions = [(await mesh.ask(prompt)).started.session_id for prompt in ("x", "y", "x")]
        assert sessions[0] == sessions[2] != sessions[1]

    async def test_a_request_may_override_the_ensembles_rules(self, mesh: FuserMesh) -> None:
        overrides = pb.Overrides(
            segment_tokens=8,
            statistic=pb.STATISTIC_PER_BYTE,
            weighting=pb.WEIGHTING_HEDGE,
            exit_policy=pb.EXIT_POLICY_ENTROPY_SOFTMAX,
            recall=False,
            self_judgement=False,
            fast_finish=True,
        )
        answer = await mesh.ask(overrides=overrides)
        assert answer.text == PARIS
        assert answer.rounds[0].token_count == 8
        best, other = (
            {one.verifier: one.share for one in candidate.judgements}
            for candidate in answer.rounds[0].candidates
        )
        counted = best["b"], (other["a"] + other["c"]) / 2  # nobody's of its own
        assert answer.rounds[0].candidates[0].share == pytest.approx(counted[0] / sum(counted))

    async def test_sampling_and_seed_reach_the_members(self, mesh: FuserMesh) -> None:
        sampling = prompt_pb2.Sampling(temperature=2.0, top_p=0.5, top_k=1000)
        assert (await mesh.ask(sampling=sampling, seed=2**64 - 1)).text == PARIS

    async def test_ensembles_are_listed_by_name(self) -> None:
        async with open_mesh(
            {"a": "x", "b": "y"},
            quorum=2,
            max_tokens_limit=900,
            max_tokens=9,
            top={
                "ensembles": {
                    "two": {"members": ["b", "a"], "quorum": 2, "max_tokens_limit": 900},
                    "one": {"members": ["a"]},
                }
            },
        ) as (mesh, _):
            await mesh.becomes_ready("a", "b", "a")
            listed = await mesh.stub.ListEnsembles(pb.ListEnsemblesRequest())
        assert [one.name for one in listed.ensembles] == ["one", "two"]
        assert listed.ensembles[1] == pb.Ensemble(
            name="two",
            members=["b", "a"],
            ready_members=["b", "a"],
            quorum=2,
            max_tokens_limit=900,
        )


def asking(**fields: Any) -> pb.GenerateRequest:
    if "conversation" not in fields:
        fields = {"raw_prompt": "?", **fields}
    return pb.GenerateRequest(**fields)


def sampled(**fields: Any) -> pb.GenerateRequest:
    return asking(sampling=prompt_pb2.Sampling(**fields))


def overridden(**fields: Any) -> pb.GenerateRequest:
    return asking(overrides=pb.Overrides(**fields))


BAD_REQUESTS: dict[str, tuple[pb.GenerateRequest, str, str]] = {
    "no prompt": (pb.GenerateRequest(), "prompt", "is absent"),
    "empty prompt": (asking(raw_prompt=""), "raw_prompt", "is empty"),
    "long prompt": (asking(raw_prompt="é" * 101), "raw_prompt", "is 202 bytes; at most 200"),
    "no messages": (
        asking(conversation=said()),
        "conversation.messages",
        "is 0 messages; must be 1",
    ),
    "many messages": (
        asking(conversation=said(*[(USER, "")] * 1025)),
        "conversation.messages",
        "is 1025 messages; must be 1 to 1024",
    ),
    "long conversation": (
        asking(conversation=said((USER, "x" * 150), (ASSISTANT, "x" * 50), (USER, "x"))),
        "conversation",
        "is 201 bytes; at most 200",
    ),
    "last is not the user": (
        asking(conversation=said((USER, "x"), (ASSISTANT, "y"))),
        "conversation.messages[1].role",
        "the last message must be a user's",
    ),
    "late system message": (
        asking(conversation=said((USER, "x"), (SYSTEM, "y"), (USER, "z"))),
        "conversation.messages[1].role",
        "only the first message may be",
    ),
    "empty user message": (
        asking(conversation=said((USER, ""), (USER, "x"))),
        "conversation.messages[0].content",
        "is empty",
    ),
    "no role": (
        asking(conversation=said((prompt_pb2.ROLE_UNSPECIFIED, "x"))),
        "conversation.messages[0].role",
        "is 0; must be one of 1, 2, 3",
    ),
    "max_tokens 0": (asking(max_tokens=0), "max_tokens", "is 0; must be 1 to 100"),
    "max_tokens above": (asking(max_tokens=101), "max_tokens", "is 101; must be 1 to 100"),
    "segment_tokens 0": (
        overridden(segment_tokens=0),
        "overrides.segment_tokens",
        "is 0; must be 1",
    ),
    "segment_tokens above": (
        overridden(segment_tokens=9),
        "overrides.segment_tokens",
        "is 9; must be 1 to 8",
    ),
    "recall without exit": (
        overridden(exit_policy=pb.EXIT_POLICY_NONE, recall=True),
        "overrides.recall",
        "contradicts exit policy none",
    ),
    "unknown statistic": (overridden(statistic=9), "overrides.statistic", "is 9; must be one of"),
    "unknown weighting": (overridden(weighting=9), "overrides.weighting", "is 9; must be one of"),
    "unknown policy": (overridden(exit_policy=9), "overrides.exit_policy", "is 9; must be one of"),
    "many stops": (asking(stop=["x"] * 17), "stop", "is 17 strings; must be 0 to 16"),
    "empty stop": (asking(stop=["x", ""]), "stop[1]", "is 0 bytes; must be 1 to 256"),
    "long stop": (asking(stop=["é" * 129]), "stop[0]", "is 258 bytes; must be 1 to 256"),
    "cold": (sampled(temperature=-0.1), "sampling.temperature", "is -0.1; must be 0 to 2"),
    "hot": (sampled(temperature=2.1), "sampling.temperature", "is 2.1; must be 0 to 2"),
    "not a number": (sampled(temperature=float("nan")), "sampling.temperature", "is nan"),
    "top_p 0": (sampled(top_p=0.0), "sampling.top_p", "is 0.0; must be above 0 and at most 1"),
    "top_p above": (sampled(top_p=1.5), "sampling.top_p", "is 1.5; must be above 0"),
    "top_k above": (sampled(top_k=1001), "sampling.top_k", "is 1001; must be 0 to 1000"),
    "many segments": (
        asking(committed_segments=["x"] * 8),
        "committed_segments",
        "is 8 segments; an answer ends at 8, so at most 7 can be continued",
    ),
    "long segments": (
        asking(committed_segments=["x" * 60, "y" * 40]),
        "committed_segments",
        "is 100 bytes; an answer ends at 100, so at most 99 can be continued",
    ),
    "tokens above": (
        asking(committed_segments=["x"], committed_tokens=4_000_000_000),
        "committed_tokens",
        "is 4000000000; with max_tokens 50 at most 58",
    ),
    "tokens of nothing": (asking(committed_tokens=3), "committed_tokens", "is 3; must be 0 when"),
    "long session": (asking(session_id="é" * 65), "session_id", "is 130 bytes; at most 128"),
}


@pytest.mark.asyncio(loop_scope="module")
class TestBadInput:
    @pytest.mark.parametrize("case", BAD_REQUESTS)
    async def test_names_the_field_its_value_and_the_limit(
        self, shared_mesh: FuserMesh, case: str
    ) -> None:
        request, field, problem = BAD_REQUESTS[case]

        error = await shared_mesh.refusal(request)

        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        refused = from_rpc_error(error)
        assert isinstance(refused, InvalidArgument)
        assert refused.field == field
        assert f"{field}: " in refused.message
        assert problem in refused.message

    async def test_the_service_stays_up(self, shared_mesh: FuserMesh) -> None:
        good = asyncio.create_task(shared_mesh.ask())
        for request, _, _ in BAD_REQUESTS.values():
            await shared_mesh.refusal(request)
        assert (await good).text == (await shared_mesh.ask()).text == PARIS

    async def test_an_unknown_ensemble_is_not_found_and_says_what_there_is(
        self, shared_mesh: FuserMesh
    ) -> None:
        error = await shared_mesh.refusal(asking(ensemble="al" + "l" * 10_000))
        assert error.code() is grpc.StatusCode.NOT_FOUND
        refused = from_rpc_error(error)
        assert isinstance(refused, NotFound)
        assert "there are: all" in refused.message
        assert len(refused.message) < 200

    async def test_the_ensemble_must_be_named_where_there_are_several(self) -> None:
        ensembles = {"one": {"members": ["a"]}, "two": {"members": ["a"]}}
        async with open_mesh({"a": "x"}, top={"ensembles": ensembles}) as (mesh, _):
            error = await mesh.refusal(asking())
            assert (await mesh.ask(ensemble="two")).started.ensemble == "two"
        assert "name one of: one, two" in str(error.details())
        assert from_rpc_error(error).metadata["field"] == "ensemble"

    async def test_a_message_beyond_what_the_server_takes_is_refused(
        self, shared_mesh: FuserMesh
    ) -> None:
        error = await shared_mesh.refusal(asking(raw_prompt="x" * 17_000_000))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (await shared_mesh.ask()).text == PARIS


class TestTrouble:
    async def test_a_member_killed_in_mid_answer_is_lost_and_the_answer_goes_on(self) -> None:
        settings: dict[str, Any] = {"segment_tokens": 3, "vote": "segments"}
        async with open_mesh({"a": PARIS, "b": PARIS}, **settings) as (mesh, nodes):
            answer = await _with_one_killed(mesh, nodes["b"])

        assert answer.text == PARIS
        assert answer.finished.degraded
        (lost,) = answer.finished.lost
        assert (lost.member, lost.reason) == ("b", pb.DEPARTURE_REASON_FAILED)
        assert "UNAVAILABLE" in lost.detail
        assert [one.member for one in answer.rounds[2].left] == ["b"]
        assert answer.rounds[1].active == ["a", "b"]
        assert answer.rounds[3].active == ["a"]

    async def test_a_member_killed_while_it_watches_is_lost_and_the_answer_goes_on(self) -> None:
        async with open_mesh({"a": PARIS, "b": PARIS}, segment_tokens=3) as (mesh, nodes):
            answer = await _with_one_killed(mesh, nodes["a"])

        assert answer.text == PARIS
        assert answer.finished.degraded
        assert [one.member for one in answer.finished.lost] == ["a"]
        assert (answer.rounds[1].active, answer.rounds[1].watched) == (["b"], ["a"])
        assert [one.member for one in answer.rounds[2].left] == ["a"]
        assert (answer.rounds[3].active, answer.rounds[3].watched) == (["b"], [])

    async def test_when_all_are_lost_another_fuser_completes_the_same_answer(self) -> None:
        async with open_mesh({"a": PARIS, "b": PARIS}, segment_tokens=3) as (mesh, nodes):
            for node in nodes.values():
                node.backend.hold_from = 2
            asked = asyncio.create_task(mesh.refusal(asking()))
            for node in (nodes["b"], nodes["a"]):  # b opens
                await node.comes_to_wait()
                await node.kill()
            error = await asked

        assert error.code() is grpc.StatusCode.UNAVAILABLE
        lost = from_rpc_error(error)
        assert isinstance(lost, QuorumLost)
        assert lost.committed_segments == ("The capital of", " France is Paris")
        assert lost.committed_tokens == 6
        async with open_mesh({"a": PARIS, "b": PARIS}, segment_tokens=3) as (other, _):
            rest = await other.ask(
                committed_segments=lost.committed_segments, committed_tokens=lost.committed_tokens
            )
        assert "".join(lost.committed_segments) + rest.text == PARIS

    async def test_no_member_needs_to_be_up_at_the_start(self, nodes: Nodes) -> None:
        node = await nodes.start("a", Line(answer=PARIS))
        address = node.address
        await node.kill()
        async with open_fuser({"a": {"endpoints": [address]}}) as mesh:
            await mesh.becomes_ready()
            error = await mesh.refusal(asking())
            assert isinstance(from_rpc_error(error), QuorumLost)

            node = await nodes.start("a", Line(answer=PARIS), listen=address)
            await mesh.becomes_ready("a")
            assert (await mesh.ask()).text == PARIS

    async def test_health_tells_which_ensembles_can_answer(self, nodes: Nodes) -> None:
        well, node = [await nodes.start("a", Line(answer=PARIS)) for _ in range(2)]
        document = {
            "two": {"members": ["a", "b"], "quorum": 2},
            "one": {"members": ["a", "b"], "quorum": 1},
        }
        members = {"a": well, "b": node}
        async with AsyncExitStack() as stack:
            mesh = await stack.enter_async_context(open_fuser(members, top={"ensembles": document}))
            channel = await stack.enter_async_context(open_channel(mesh.fuser.address))
            two, one = (health_updates(channel, name) for name in ("two", "one"))
            await becomes(two, SERVING)
            await becomes(one, SERVING)
            await node.kill()
            await becomes(two, NOT_SERVING)
            back = await nodes.start("b", Line(answer=PARIS), listen=node.address)
            await becomes(two, SERVING)
            await back.kill()
            await well.kill()
            await becomes(one, NOT_SERVING)
            process = await HealthStub(channel).Check(health_pb2.HealthCheckRequest())
            assert process.status == SERVING, "the process is well, whoever else is not"

    async def test_callers_that_do_not_read_lose_their_place_when_time_is_up(self) -> None:
        long = " ".join(f"{number:040}" for number in range(2000))
        limits = {"requests_in_flight": 8}
        long_answer = asking(max_tokens=2000)
        async with (
            open_mesh(
                {"a": long},
                request_timeout_seconds=5.0,  # enough for all to be there at once, however busy
                segment_tokens=50,
                top={"limits": limits, "drain_seconds": 0.5},
            ) as (mesh, _),
            AsyncExitStack() as stack,
        ):
            deaf = [await stack.enter_async_context(deaf_channel(mesh)) for _ in range(8)]
            calls = [FuserServiceStub(channel).Generate(long_answer) for channel in deaf]
            await until_metric(mesh, "specfuse_requests_in_flight", 8)
            refused = from_rpc_error(await mesh.refusal(asking()))
            assert isinstance(refused, Overloaded)
            await mesh.becomes_idle()
            assert (await mesh.ask(max_tokens=4)).text
            async with asyncio.timeout(PATIENCE_SECONDS):
                await mesh.fuser.drain()
            assert all(call.done() is not None for call in calls)

    async def test_fewer_than_the_quorum_end_the_query(self) -> None:
        async with open_mesh({"a": PARIS, "b": PARIS}, quorum=2) as (mesh, nodes):
            await nodes["b"].kill()
            error = from_rpc_error(await mesh.refusal(asking()))
        assert isinstance(error, QuorumLost)
        assert "fewer than 2 members" in error.message
        assert "b: UNAVAILABLE" in error.message

    async def test_a_straggler_sits_out_and_then_leaves(self) -> None:
        async with open_mesh(
            {"a": PARIS, "b": PARIS, "c": PARIS},
            segment_tokens=3,
            vote="segments",
            quorum=2,
            straggler_grace_seconds=0.2,
            max_misses=2,
        ) as (mesh, nodes):
            nodes["c"].backend.hold_from = 0
            answer = await mesh.ask()
            await nodes["c"].is_cancelled()
            await nodes["c"].is_cancelled()

        assert answer.text == PARIS
        assert all(one.active == ["a", "b"] for one in answer.rounds)
        assert [[gone.member for gone in one.left] for one in answer.rounds][:3] == [[], ["c"], []]
        (lost,) = answer.finished.lost
        assert (lost.member, lost.reason) == ("c", pb.DEPARTURE_REASON_STRAGGLER)

    async def test_a_caller_that_goes_away_ends_the_members_work(self) -> None:
        async with open_mesh({"a": PARIS, "b": PARIS}) as (mesh, nodes):
            nodes["a"].backend.hold_from = 0
            call = mesh.stub.Generate(asking())
            await nodes["a"].comes_to_wait()
            call.cancel()
            await nodes["a"].is_cancelled()
            nodes["a"].backend.hold_from = None
            assert (await mesh.ask()).text == PARIS
            assert await mesh.metric("specfuse_requests_in_flight") == 0

    async def test_beyond_the_limit_requests_are_refused_at_once(self) -> None:
        limits = {"requests_in_flight": 1}
        async with open_mesh({"a": PARIS}, top={"limits": limits}) as (mesh, nodes):
            nodes["a"].backend.hold_from = 0
            first = asyncio.create_task(mesh.ask())
            await nodes["a"].comes_to_wait()

            began = time.monotonic()
            error = await mesh.refusal(asking())

            assert time.monotonic() - began < 1
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert isinstance(from_rpc_error(error), Overloaded)
            assert "1 requests are in flight" in str(error.details())
            nodes["a"].backend.opened.set()
            assert (await first).text == (await mesh.ask()).text == PARIS

    async def test_the_callers_deadline_ends_it_and_reaches_the_members(self) -> None:
        async with open_mesh({"a": PARIS}) as (mesh, nodes):
            nodes["a"].backend.hold_from = 0
            error = await mesh.refusal(asking(), seconds=0.2)
            await nodes["a"].is_cancelled()
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert nodes["a"].backend.deadlines[0].remaining < 0.2

    async def test_the_ensembles_own_time_limit_counts_if_it_is_earlier(self) -> None:
        async with open_mesh({"a": PARIS}, request_timeout_seconds=0.2) as (mesh, nodes):
            nodes["a"].backend.hold_from = 0
            error = from_rpc_error(await mesh.refusal(asking()))
        assert isinstance(error, DeadlineExceeded)
        assert "after 0 rounds" in error.message

    async def test_a_member_whose_window_is_too_small_is_lost_alone(self, nodes: Nodes) -> None:
        small = await nodes.start("small", Line(answer=PARIS), context_window=12)
        large = await nodes.start("large", Line(answer=PARIS))
        async with open_fuser({"small": small, "large": large}, segment_tokens=3) as mesh:
            answer = await mesh.ask("a prompt of five words")
        assert answer.text == PARIS
        (lost,) = answer.finished.lost
        assert lost.member == "small"
        assert "CONTEXT_TOO_LONG" in lost.detail

    async def test_a_context_too_long_for_all_is_the_callers_mistake(self, nodes: Nodes) -> None:
        node = await nodes.start("a", Line(answer=PARIS), context_window=12)
        async with open_fuser({"a": node}, segment_tokens=8) as mesh:
            error = await mesh.refusal(asking(raw_prompt="a prompt of five words"))
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
            refused = from_rpc_error(error)
            assert isinstance(refused, ContextTooLong)
            assert refused.metadata["window"] == "12"
            assert (await mesh.ask("short", max_tokens=2)).text == "The capital"

    async def test_an_answer_in_flight_survives_the_drain(self) -> None:
        async with open_mesh({"a": PARIS}) as (mesh, nodes):
            nodes["a"].backend.hold_from = 0
            asked = asyncio.create_task(mesh.ask())
            await nodes["a"].comes_to_wait()
            draining = asyncio.create_task(mesh.fuser.drain())
            nodes["a"].backend.opened.set()
            assert (await asked).text == PARIS
            await draining


class TestReplicas:
    async def test_a_session_stays_with_one_replica_and_moves_when_that_dies(
        self, nodes: Nodes
    ) -> None:
        replicas = [await nodes.start("a", Line(answer=PARIS)) for _ in range(3)]
        async with open_fuser({"a": replicas}, segment_tokens=3) as mesh:
            assert (await mesh.ask(session_id="s")).text == PARIS
            (pinned,) = [node for node in replicas if node.backend.sessions]

            pinned.backend.hold_from = 2
            asked = asyncio.create_task(mesh.ask(session_id="s"))
            await pinned.comes_to_wait()
            await pinned.kill()
            answer = await asked

        assert answer.text == PARIS
        assert not answer.finished.degraded
        assert sum(bool(node.backend.sessions) for node in replicas) == 2


@pytest.mark.skipif(OPENSSL is None, reason="needs openssl")
async def test_mutual_tls_from_the_caller_to_the_member(tmp_path: Path, nodes: Nodes) -> None:
    ca = Authority.create(tmp_path)
    model, fuser, caller = (ca.issue(name) for name in ("model", "fuser", "caller"))
    node = await nodes.start(
        "a", Line(answer=PARIS), tls=TlsFiles(model.certificate, model.key, ca.certificate)
    )
    identity = {"certificate": str(fuser.certificate), "key": str(fuser.key)}
    member = {"endpoints": [node.address], "tls": {"ca": str(ca.certificate), **identity}}
    tls = {"client_ca": str(ca.certificate), **identity}
    async with open_fuser({"a": member}, top={"tls": tls}) as plain:
        trusted = ClientTls(ca.certificate, caller.certificate, caller.key)
        async with open_channel(plain.fuser.address, trusted) as channel:
            plain.stub = type(plain.stub)(channel)
            assert (await plain.ask()).text == PARIS


class TestStart:
    """What cannot be served is said at once, and nothing stays behind."""

    async def test_a_port_in_use_is_named(self, mesh: FuserMesh) -> None:
        for setting in ("listen", "metrics_listen"):
            taken = {"listen": mesh.fuser.address, "metrics_listen": mesh.fuser.metrics_address}
            with pytest.raises(Misconfigured, match=f"{setting}: cannot bind {taken[setting]}"):
                async with open_fuser({"a": NOWHERE}, top={setting: taken[setting]}):
                    pass
        assert (await mesh.ask()).text == PARIS

    async def test_tls_files_that_are_not_there_are_named(self) -> None:
        for settings, key in (
            ({"members": {"a": NOWHERE}, "top": {"tls": MISSING}}, "tls.key"),
            ({"members": {"a": {**NOWHERE, "tls": MISSING}}}, "tls.key"),
        ):
            with pytest.raises(Misconfigured, match=rf"{key} /missing/key: cannot be read"):
                async with open_fuser(**settings):
                    pass

    async def test_members_are_started_all_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        all_asked = asyncio.Barrier(3)

        class Mutual:
            """Knows no replicas before all members have asked for theirs."""

            async def watch(self) -> AsyncIterator[tuple[str, ...]]:
                await all_asked.wait()
                yield ("127.0.0.1:9",)

        monkeypatch.setattr(endpoints, "open_discovery", lambda _section: Mutual())
        async with asyncio.timeout(PATIENCE_SECONDS), open_fuser(dict.fromkeys("abc", NOWHERE)):
            pass

    async def test_a_member_that_cannot_start_ends_the_start_of_the_others(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given_up: list[str] = []

        class Silent:
            """Never knows any replicas."""

            async def watch(self) -> AsyncIterator[tuple[str, ...]]:
                try:
                    await asyncio.Event().wait()
                finally:
                    given_up.append("silent")
                yield ()

        class Wrong:
            """Has nothing to look up."""

            async def watch(self) -> AsyncIterator[tuple[str, ...]]:
                raise Misconfigured("wrong: there is nothing to look up")
                yield ()

        discoveries = {("silent:1",): Silent(), ("wrong:1",): Wrong()}
        monkeypatch.setattr(endpoints, "open_discovery", discoveries.get)
        members = {name: {"endpoints": [f"{name}:1"]} for name in ("silent", "wrong")}
        async with asyncio.timeout(PATIENCE_SECONDS):
            with pytest.raises(Misconfigured, match="there is nothing to look up"):
                async with open_fuser(members):
                    pass
        assert given_up == ["silent"]

    async def test_a_thousand_members_start_and_stop_in_seconds(self) -> None:
        names = [f"m{number}" for number in range(1000)]
        ensembles = {
            f"e{first}": {"members": names[first : first + 64]} for first in range(0, 1000, 64)
        }
        async with (
            asyncio.timeout(PATIENCE_SECONDS),
            open_fuser(dict.fromkeys(names, NOWHERE), top={"ensembles": ensembles}) as mesh,
        ):
            served = await mesh.stub.ListEnsembles(pb.ListEnsemblesRequest())
            assert {name for one in served.ensembles for name in one.members} == set(names)

    async def test_stopping_twice_is_stopping_once(self) -> None:
        async with open_fuser({"a": NOWHERE}) as mesh:
            await mesh.fuser.stop()
            await mesh.fuser.stop()


SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def health_updates(channel: grpc.aio.Channel, name: str) -> AsyncIterator[Any]:
    """What health says of an ensemble, from now on."""
    request = health_pb2.HealthCheckRequest(service=name)
    return aiter(HealthStub(channel).Watch(request))


async def becomes(updates: AsyncIterator[Any], status: int) -> None:
    """Returns when health says so."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await anext(updates)).status != status:
            pass


def deaf_channel(mesh: FuserMesh) -> grpc.aio.Channel:
    """A connection of its own over which little is taken unless it is read."""
    options = [
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", 1024),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    return grpc.aio.insecure_channel(mesh.fuser.address, options)


async def until_metric(mesh: FuserMesh, name: str, value: float) -> None:
    """Returns when /metrics has this value."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await mesh.metric(name) != value:  # noqa: ASYNC110 (behind a socket)
            await asyncio.sleep(0.02)


class TestNumbers:
    async def test_of_an_answer(self, mesh: FuserMesh) -> None:
        finished = (await mesh.ask()).finished

        async def value(name: str, **labels: str) -> float | None:
            return await mesh.metric(f"specfuse_{name}", **labels)

        async def of_all(name: str, **labels: str) -> float | None:
            return await value(name, ensemble="all", **labels)

        assert await of_all("request_duration_seconds_count", outcome="ok") == 1
        assert await value("requests_in_flight") == 0
        assert await of_all("rounds_per_request_sum") == finished.rounds
        assert await of_all("time_to_first_segment_seconds_count") == 1
        assert await of_all("time_per_output_token_seconds_count") == 1
        assert await of_all("round_duration_seconds_count", phase="total") == finished.rounds
        wins = [await of_all("segment_wins_total", model_name=one) or 0 for one in "abc"]
        assert sum(wins) == finished.rounds
        ok = {"rpc": "propose", "outcome": "ok"}
        made = [await value("member_calls_total", model_name=one, **ok) or 0 for one in "abc"]
        assert sum(made) == finished.propose_calls.made
        rpc = {"model_name": "a", "rpc": "propose"}
        assert await value("member_call_duration_seconds_count", **rpc) == made[0]
        avoided = [
            await value("member_calls_avoided_total", model_name=one, reason=reason) or 0
            for one in "abc"
            for reason in get_args(AvoidedBecause)
        ]
        assert sum(avoided) == finished.propose_calls.avoided + finished.score_calls.avoided
        assert await of_all("active_members_count") == finished.rounds
        assert await of_all("ensemble_ready_members") == 3
        assert await value("member_ready", model_name="a") == 1

    async def test_of_a_request_that_does_not_say_which_ensemble(self, nodes: Nodes) -> None:
        node = await nodes.start("a", Line(answer=PARIS))
        ensembles = {name: {"members": ["a"]} for name in ("one", "other")}
        async with open_fuser({"a": node}, top={"ensembles": ensembles}) as mesh:
            error = from_rpc_error(await mesh.refusal(asking()))
            assert isinstance(error, InvalidArgument)
            assert error.field == "ensemble"
            counted = "specfuse_request_duration_seconds_count"
            refused = {"ensemble": "unknown", "outcome": "invalid_argument"}
            assert await mesh.metric(counted, **refused) == 1

    async def test_of_refusals_and_departures(self) -> None:
        async with open_mesh({"a": PARIS, "b": PARIS}, quorum=1) as (mesh, nodes):
            await nodes["b"].kill()
            assert (await mesh.ask()).finished.degraded
            await mesh.refusal(asking(max_tokens=0))
            await mesh.refusal(pb.GenerateRequest())
            await mesh.refusal(asking(ensemble="x"))

            async def ended(outcome: str, ensemble: str = "all") -> float | None:
                labels = {"ensemble": ensemble, "outcome": outcome}
                return await mesh.metric("specfuse_request_duration_seconds_count", **labels)

            assert await ended("degraded") == 1
            assert await ended("invalid_argument") == 1
            assert await ended("invalid_argument", "unknown") == 1, "had no prompt"
            assert await ended("not_found", "unknown") == 1
            assert await ended("ok") == 0
            gone = {"ensemble": "all", "model_name": "b", "reason": "failed"}
            lost = await mesh.metric("specfuse_member_exits_total", **gone)
            failed = {"model_name": "b", "rpc": "propose", "outcome": "failed"}
            assert await mesh.metric("specfuse_member_calls_total", **failed) == lost
            assert lost is not None
            assert lost >= 1, "it is asked again in later rounds, in vain"

    async def test_of_a_deadline_and_a_caller_that_goes_away(self) -> None:
        async with open_mesh({"a": PARIS}) as (mesh, nodes):
            nodes["a"].backend.hold_from = 0
            with pytest.raises(grpc.aio.AioRpcError):
                async for _ in mesh.stub.Generate(asking(), timeout=0.2):
                    pass
            call = mesh.stub.Generate(asking())
            await call.read()
            call.cancel()
            await mesh.becomes_idle()

            async def ended(outcome: str) -> float | None:
                labels = {"ensemble": "all", "outcome": outcome}
                return await mesh.metric("specfuse_request_duration_seconds_count", **labels)

            assert await ended("deadline_exceeded") == 1
            assert await ended("cancelled") == 1

    async def test_what_members_refuse_is_not_their_failure(self, nodes: Nodes) -> None:
        node = await nodes.start("a", Line(answer=PARIS), context_window=12)
        async with open_fuser({"a": node}, segment_tokens=8) as mesh:
            await mesh.refusal(asking(raw_prompt="a prompt of five words"))
            for outcome, count in (("rejected", 1), ("failed", 0)):
                call = {"model_name": "a", "rpc": "propose", "outcome": outcome}
                assert await mesh.metric("specfuse_member_calls_total", **call) == count
                left = {"ensemble": "all", "model_name": "a", "reason": outcome}
                assert await mesh.metric("specfuse_member_exits_total", **left) == count
