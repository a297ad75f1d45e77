"""Both clients against a real server: one suite."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from contextlib import suppress
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext

import specfuse
from specfuse.client import (
    AsyncClient,
    CallCounts,
    Client,
    Departure,
    DepartureReason,
    Ensemble,
    Finished,
    FinishReason,
    Judgement,
    ResumePoint,
    RoundCandidate,
    RoundTimings,
    Segment,
    Started,
)
from specfuse.errors import (
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    Misconfigured,
    NotFound,
    QuorumLost,
    SpecFuseError,
    Unavailable,
)
from specfuse.observability.tracing.current import attached
from specfuse.rpc.server import RpcServer
from specfuse.v1 import fuser_service_pb2 as pb
from tests.support.caller import Caller, asking
from tests.support.fuser_door import (
    ScriptedFuser,
    finished,
    open_door,
    script,
    segment,
    started,
)
from tests.support.link import Link

BEGIN = started("ada", "bob")
COMPLETE = (BEGIN, segment(1, "One"), segment(2, " two\n"), finished("."))


@pytest.fixture(params=[Client, AsyncClient])
def kind(request: pytest.FixtureRequest) -> type[Client | AsyncClient]:
    return request.param


async def test_generate_is_the_whole_answer(kind: type) -> None:
    fuser = ScriptedFuser(script(*COMPLETE))
    async with asking(kind, fuser) as caller:
        answer = await caller.generate(ensemble="duo", max_tokens=9)
    assert answer.text == "One two\n."
    assert answer.finish_reason is FinishReason.STOP
    assert [one.segment for one in answer.segments] == ["One", " two\n"]
    assert (answer.ensemble, answer.members) == ("duo", ("ada", "bob"))
    assert not answer.degraded
    (request,) = fuser.requests
    assert (request.ensemble, request.max_tokens) == ("duo", 9)
    assert request.conversation.messages[0].content == "Count."


async def test_stream_is_typed_events_with_all_that_was_sent(kind: type) -> None:
    committed = segment(
        1,
        "One<",
        shown="One",
        candidates=[
            pb.RoundCandidate(
                text="One<",
                proposers=["ada", "bob"],
                share=0.75,
                judgements=[pb.Judgement(verifier="ada", share=0.5)],
            ),
            pb.RoundCandidate(text="Uno", finished=True, proposers=["cy"], share=0.25),
        ],
        active=["ada", "bob", "cy"],
        left=[pb.Departure(member="cy", reason=pb.DEPARTURE_REASON_EXIT)],
        recalled=["bob"],
        timings=pb.RoundTimings(propose_seconds=1, score_seconds=2, total_seconds=3),
    )
    done = finished(
        "<",
        reason=pb.FINISH_REASON_LENGTH,
        rounds=1,
        output_tokens=2,
        propose_calls=pb.CallCounts(made=3, avoided=1),
        score_calls=pb.CallCounts(made=2, avoided=2),
        lost=[
            pb.Departure(member="bob", reason=pb.DEPARTURE_REASON_FAILED, detail="gone"),
            pb.Departure(member="cy", reason=pb.DEPARTURE_REASON_STRAGGLER),
        ],
        degraded=True,
        total_seconds=4,
    )
    async with asking(kind, ScriptedFuser(script(BEGIN, committed, done))) as caller:
        events = await caller.take(-1)
    assert events == [
        Started("duo", ("ada", "bob"), "s-1"),
        Segment(
            round=1,
            segment="One<",
            text="One",
            winner="ada",
            token_count=2,
            candidates=(
                RoundCandidate("One<", False, ("ada", "bob"), 0.75, (Judgement("ada", 0.5),)),
                RoundCandidate("Uno", True, ("cy",), 0.25),
            ),
            active=("ada", "bob", "cy"),
            left=(Departure("cy", DepartureReason.EXIT),),
            recalled=("bob",),
            timings=RoundTimings(1, 2, 3),
        ),
        Finished(
            reason=FinishReason.LENGTH,
            text="<",
            rounds=1,
            output_tokens=2,
            propose_calls=CallCounts(3, 1),
            score_calls=CallCounts(2, 2),
            lost=(
                Departure("bob", DepartureReason.FAILED, "gone"),
                Departure("cy", DepartureReason.STRAGGLER),
            ),
            degraded=True,
            total_seconds=4,
        ),
    ]
    last = events[-1]
    assert isinstance(last, Finished)
    assert (last.calls_made, last.calls_avoided) == (5, 3)


async def test_event_of_a_kind_only_a_newer_service_knows_is_passed_over(kind: type) -> None:
    newer = pb.GenerateResponse.FromString(b"\x9a\x06\x00")  # field 99
    async with asking(kind, ScriptedFuser(script(BEGIN, newer, finished("x")))) as caller:
        assert (await caller.generate()).text == "x"


@pytest.mark.parametrize(
    "events",
    [
        (BEGIN, finished(reason=9)),
        (BEGIN, segment(1, "a", left=[pb.Departure(member="bob", reason=8)])),
        (segment(1, "a"), finished()),
    ],
)
async def test_stream_that_makes_no_sense_is_internal(kind: type, events: tuple[Any, ...]) -> None:
    async with asking(kind, ScriptedFuser(script(*events))) as caller:
        with pytest.raises(Internal):
            await caller.generate()


async def test_ensembles(kind: type) -> None:
    async def list_ensembles(request, context):
        duo = pb.Ensemble(
            name="duo",
            members=["ada", "bob"],
            ready_members=["bob"],
            quorum=1,
            max_tokens_limit=512,
        )
        return pb.ListEnsemblesResponse(ensembles=[duo])

    async with asking(kind, ScriptedFuser(list_ensembles=list_ensembles)) as caller:
        assert await caller.ensembles(timeout=10) == (
            Ensemble("duo", ("ada", "bob"), ("bob",), 1, 512),
        )


async def test_key_and_timeout_reach_the_service(kind: type) -> None:
    seen = []

    async def generate(request, context):
        seen.append((dict(context.invocation_metadata()), context.time_remaining()))
        for event in COMPLETE:
            yield event

    async with asking(kind, ScriptedFuser(generate), api_key="sf-secret") as caller:
        await caller.generate(timeout=30)
        await caller.generate()
    (headers, timed), (_, untimed) = seen
    assert headers["authorization"] == "Bearer sf-secret"
    assert 0 < timed < 31, "gRPC rounds what it sends up"
    assert untimed is None


async def test_leaving_a_stream_early_ends_the_work(kind: type) -> None:
    left = asyncio.Event()

    async def generate(request, context):
        try:
            yield BEGIN
            yield segment(1, "One")
            await asyncio.Event().wait()
        finally:
            left.set()

    async with asking(kind, ScriptedFuser(generate)) as caller:
        assert len(await caller.take(2)) == 2
        await left.wait()


async def test_cancelling_an_async_call_ends_the_work() -> None:
    reached, left = asyncio.Event(), asyncio.Event()

    async def generate(request, context):
        try:
            reached.set()
            await asyncio.Event().wait()
            yield BEGIN
        finally:
            left.set()

    async with asking(AsyncClient, ScriptedFuser(generate)) as caller:
        call = asyncio.create_task(caller.generate())
        await reached.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await left.wait()


async def test_option_that_cannot_be_sent_is_refused_before_the_stream(kind: type) -> None:
    client = kind("127.0.0.1:1")
    with pytest.raises(InvalidArgument, match="max_tokens: -1"):
        client.stream("Count.", max_tokens=-1)
    with pytest.raises(TypeError, match="unknown option 'max_token'"):
        client.stream("Count.", max_token=1)


async def test_refusal_of_the_service_is_its_exception(kind: type) -> None:
    refusal = NotFound("ensemble: 'trio' is not one of duo", ensemble="trio")
    async with asking(kind, ScriptedFuser(script(refusal))) as caller:
        with pytest.raises(NotFound) as caught:
            await caller.generate(ensemble="trio")
    assert caught.value.message == refusal.message
    assert caught.value.metadata == {"ensemble": "trio"}
    assert caught.value.resume is None


async def test_what_the_fuser_calls_it_is_told_from_the_beginning(kind: type) -> None:
    async with asking(kind, ScriptedFuser(script(*COMPLETE), request_id="r-1")) as caller:
        (begun,) = await caller.take(1)
        answer = await caller.generate()
    assert isinstance(begun, Started)
    assert begun.request_id == answer.started.request_id == "r-1"
    assert answer.request_ids == answer.finished.request_ids == ("r-1",)


@pytest.mark.parametrize(
    "events",
    [
        (NotFound("none"),),
        (BEGIN, segment(1, "One"), Internal("a bug")),
        (BEGIN, segment(1, "One")),
        (BEGIN, BEGIN),
    ],
    ids=["refused", "failed", "just ended", "makes no sense"],
)
async def test_what_went_wrong_can_be_looked_up(kind: type, events: tuple[Any, ...]) -> None:
    async with asking(kind, ScriptedFuser(script(*events), request_id="r-1")) as caller:
        with pytest.raises(SpecFuseError) as caught:
            await caller.generate(resume="never")
    assert caught.value.request_ids == ("r-1",)


@pytest.mark.parametrize("named", ["", "x" * 129], ids=["none", "no id"])
async def test_a_fuser_need_not_name_what_it_is_asked(kind: type, named: str) -> None:
    async with asking(kind, ScriptedFuser(script(*COMPLETE), request_id=named)) as caller:
        answer = await caller.generate()
    assert (answer.started.request_id, answer.request_ids) == ("", ())


async def test_nobody_at_the_address(kind: type) -> None:
    async with open_door(ScriptedFuser()) as server:
        address = server.address
    async with Caller(kind, address) as caller:
        for call in (caller.generate, caller.ensembles):
            with pytest.raises(Unavailable, match=f"{address} failed") as caught:
                await call()
            assert "Is it running at this address" in caught.value.message
            assert caught.value.resume is None
            assert caught.value.request_ids == ()


async def test_another_service_at_the_address(kind: type) -> None:
    async with RpcServer([]) as server, Caller(kind, server.address) as caller:
        with pytest.raises(Misconfigured, match="Is this the address of another service"):
            await caller.generate()


def test_empty_address_is_refused() -> None:
    with pytest.raises(Misconfigured, match="target: empty"):
        Client("")


INTERRUPTIONS = [
    QuorumLost("0 of 1 members left", committed_segments=("One", " tw"), committed_tokens=4),
    QuorumLost("its resume point did not fit into the headers", committed_tokens=4),
    Unavailable("the fuser is gone"),
    DeadlineExceeded("time is up"),
    Internal("a bug"),
]


@pytest.mark.parametrize("error", INTERRUPTIONS, ids=lambda error: error.message)
@pytest.mark.parametrize("never", ["never", None])
async def test_interrupted_answer_says_where_it_stands(
    kind: type, error: SpecFuseError, never: str | None
) -> None:
    events = (BEGIN, segment(1, "One"), segment(2, " tw", shown=" t"), error)
    async with asking(kind, ScriptedFuser(script(*events))) as caller:
        with pytest.raises(type(error)) as caught:
            await caller.generate(resume=never)
    assert caught.value.resume == ResumePoint(("One", " tw"), 4, "One t")
    if isinstance(caught.value, QuorumLost):
        assert caught.value.committed_segments == ("One", " tw")
        assert caught.value.committed_tokens == 4


async def test_resuming_goes_on_where_the_answer_stands(kind: type) -> None:
    fuser = ScriptedFuser(
        script(BEGIN, segment(1, "One"), segment(2, " tw", shown=" t"), OSError())
    )
    async with asking(kind, fuser) as caller:
        with pytest.raises(Internal) as first:
            await caller.generate()
        fuser.generate = script(BEGIN, segment(1, "o", shown="wo"), DeadlineExceeded("again"))
        with pytest.raises(DeadlineExceeded) as second:
            await caller.generate(resume=first.value.resume)
        fuser.generate = script(BEGIN, segment(1, " three"), finished("."))
        answer = await caller.generate(resume=second.value.resume)
    assert answer.text == "One two three."
    assert [one.segment for one in answer.segments] == [" three"]
    assert [list(request.committed_segments) for request in fuser.requests] == [
        [],
        ["One", " tw"],
        ["One", " tw", "o"],
    ]
    assert [request.committed_tokens for request in fuser.requests] == [0, 4, 6]


async def test_resumption_that_gets_nowhere_still_stands_where_it_stood(kind: type) -> None:
    point = ResumePoint(("One",), 2, "One")
    async with Caller(kind, "127.0.0.1:1") as caller:
        with pytest.raises(Unavailable) as caught:
            await caller.generate(resume=point)
    assert caught.value.resume == point


async def test_stream_that_just_ends_is_an_interruption(kind: type) -> None:
    async with asking(kind, ScriptedFuser(script(BEGIN, segment(1, "One")))) as caller:
        with pytest.raises(Unavailable, match="ended before the answer did") as caught:
            await caller.generate()
    assert caught.value.resume == ResumePoint(("One",), 2, "One")


async def test_server_that_dies_in_mid_answer_is_an_interruption(kind: type) -> None:
    async def generate(request, context):
        yield BEGIN
        yield segment(1, "One")
        await asyncio.Event().wait()

    async with open_door(ScriptedFuser(generate)) as server, Caller(kind, server.address) as caller:
        call = asyncio.create_task(caller.take(-1, resume="never"))
        await caller.heard(2)
        await server.stop()
        with pytest.raises(Unavailable) as caught:
            await call
        assert server.address in caught.value.message
        assert caught.value.resume == ResumePoint(("One",), 2, "One")


async def test_callers_deadline_in_mid_answer_is_an_interruption(kind: type) -> None:
    async def generate(request, context):
        yield BEGIN
        yield segment(1, "One")
        await asyncio.Event().wait()

    async with asking(kind, ScriptedFuser(generate)) as caller:
        with pytest.raises(DeadlineExceeded) as caught:
            await caller.generate(timeout=0.5)
    assert caught.value.resume == ResumePoint(("One",), 2, "One")


async def test_clients_are_context_managers() -> None:
    async with open_door(ScriptedFuser(script(*COMPLETE))) as server:

        def block() -> str:
            with Client(server.address) as client:
                return client.generate("Count.").text

        assert await asyncio.to_thread(block) == "One two\n."
        async with AsyncClient(server.address) as client:
            assert (await client.generate("Count.")).text == "One two\n."


async def test_a_closed_client_keeps_no_connection_for_a_call_that_failed(kind: type) -> None:
    """Not even until garbage is collected."""
    fuser = ScriptedFuser(script(BEGIN, NotFound("no such")))
    gc.disable()
    try:
        async with open_door(fuser) as server, Link(server.address) as link:
            caller = Caller(kind, link.address)
            with suppress(NotFound):
                await caller.generate()
            assert link.connections
            await caller.close()
            async with asyncio.timeout(20):
                while link.connections:  # noqa: ASYNC110 (behind a socket)
                    await asyncio.sleep(0.01)
    finally:
        gc.enable()


def test_async_client_may_be_made_outside_an_event_loop() -> None:
    client = AsyncClient("127.0.0.1:1")
    with pytest.raises(Unavailable):
        asyncio.run(client.ensembles(timeout=10))


def test_clients_are_at_the_top() -> None:
    assert specfuse.Client is Client
    assert specfuse.AsyncClient is AsyncClient
    with pytest.raises(AttributeError, match="no attribute 'Clint'"):
        specfuse.Clint  # noqa: B018


HEAVY = (
    "torch",
    "transformers",
    "pydantic",
    "prometheus_client",
    "yaml",
    "numpy",
    "specfuse.rpc.server",
)


def test_client_needs_none_of_what_services_need() -> None:
    probe = f"""
import sys
import specfuse
assert "grpc" not in sys.modules, "the package itself imports nothing"
specfuse.Client("127.0.0.1:1").close()
print([name for name in {HEAVY} if name in sys.modules])
"""
    run = subprocess.run(
        [sys.executable, "-c", probe], check=True, capture_output=True, text=True, timeout=60
    )
    assert run.stdout.strip() == "[]"


SPAN = trace.set_span_in_context(NonRecordingSpan(SpanContext(0xABC, 0xDEF, is_remote=False)))


async def test_the_trace_of_whoever_asks_goes_along(kind: type) -> None:
    fuser = ScriptedFuser(script(*COMPLETE))
    async with asking(kind, fuser, api_key="k") as caller:
        with attached(SPAN):
            await caller.generate()
            await caller.take(-1)
            await caller.ensembles()
        await caller.generate()
    *within, without = fuser.headers
    assert {one["traceparent"] for one in within} == {f"00-{0xABC:032x}-{0xDEF:016x}-00"}
    assert {one["authorization"] for one in within} == {"Bearer k"}
    assert "traceparent" not in without
