"""The model service over real gRPC: what it answers, what it refuses, how it lives and ends."""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from model_service.core.types import (
    Candidate,
    Context,
    Message,
    ProposeRequest,
    Role,
    Sampling,
    ScoreRequest,
)
from model_service.main import start
from model_service.settings import Limits, Settings
from specfuse.errors import (
    DeadlineExceeded,
    InvalidArgument,
    Misconfigured,
    ModelFailure,
    Overloaded,
    SpecFuseError,
    Unavailable,
)
from specfuse.rpc.channels import open_channel
from specfuse.rpc.errors import from_rpc_error
from specfuse.serving.running import GRPC
from specfuse.v1 import model_service_pb2 as pb
from specfuse.v1 import prompt_pb2
from specfuse.v1.model_service_pb2_grpc import ModelServiceStub
from tests.support.model_door import HeldBackend, ModelDoor, open_model_door, raw_context

USER = prompt_pb2.Message(role=prompt_pb2.ROLE_USER, content="Hi")
SYSTEM = prompt_pb2.Message(role=prompt_pb2.ROLE_SYSTEM, content="Be brief.")
ASSISTANT = prompt_pb2.Message(role=prompt_pb2.ROLE_ASSISTANT, content="Hello.")


@pytest.fixture
async def door() -> AsyncIterator[ModelDoor]:
    """A door whose backend answers at once."""
    async with open_model_door() as opened:
        yield opened


@pytest.fixture
async def held() -> AsyncIterator[ModelDoor]:
    """A door with two places to run and one to wait, whose backend answers when released."""
    backend = HeldBackend()
    async with open_model_door(backend, Limits(running_calls=2, waiting_calls=1)) as opened:
        yield opened
        backend.released.set()


def conversation(*messages: prompt_pb2.Message) -> pb.Context:
    return pb.Context(conversation=prompt_pb2.Conversation(messages=messages))


def proposal(**fields: Any) -> pb.ProposeSegmentRequest:
    return pb.ProposeSegmentRequest(**{"context": raw_context(), **fields})


def scoring(**fields: Any) -> pb.ScoreSegmentsRequest:
    candidates = [pb.Candidate(text=" so")]
    return pb.ScoreSegmentsRequest(**{"context": raw_context(), "candidates": candidates, **fields})


async def error_of(call: Awaitable[Any]) -> SpecFuseError:
    """What a caller of ours makes of how the call fails."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value)


# --- answers ------------------------------------------------------------------------------------


async def test_a_proposal_there_and_back(door: ModelDoor) -> None:
    context = conversation(SYSTEM, USER, ASSISTANT, USER)
    context.committed_segments[:] = [" one", " two"]
    context.session_id = "session"
    response = await door.stub.ProposeSegment(
        pb.ProposeSegmentRequest(
            context=context,
            max_tokens=7,
            sampling=prompt_pb2.Sampling(temperature=0.5, top_p=0.9, top_k=40),
            stop=["\n", "END"],
            seed=2**64 - 1,
        )
    )
    assert door.backend.requests == [
        ProposeRequest(
            Context(
                (
                    Message(Role.SYSTEM, "Be brief."),
                    Message(Role.USER, "Hi"),
                    Message(Role.ASSISTANT, "Hello."),
                    Message(Role.USER, "Hi"),
                ),
                (" one", " two"),
                "session",
            ),
            max_tokens=7,
            sampling=Sampling(0.5, 0.9, 40, 2**64 - 1),
            stop=("\n", "END"),
        )
    ]
    assert response.segment.text == " so"
    assert response.segment.finish == pb.SEGMENT_FINISH_END
    assert response.segment.token_count == 1
    assert not response.segment.HasField("own_score")
    assert (response.usage.context_tokens, response.usage.cached_tokens) == (3, 2)


async def test_what_a_proposal_does_not_say_has_defaults(door: ModelDoor) -> None:
    await door.stub.ProposeSegment(proposal())
    assert door.backend.requests == [ProposeRequest(Context("Once upon a time"), max_tokens=10)]


async def test_scores_there_and_back(door: ModelDoor) -> None:
    candidates = [pb.Candidate(text=" né"), pb.Candidate(finished=True)]
    response = await door.stub.ScoreSegments(scoring(candidates=candidates))
    assert door.backend.requests == [
        ScoreRequest(
            Context("Once upon a time"), (Candidate(" né", finished=False), Candidate("", True))
        )
    ]
    first, second = response.scores
    assert first.logprob_sum == pytest.approx(-0.75)
    assert (first.token_count, first.byte_count, second.byte_count) == (2, 4, 0)
    assert not first.token_logprobs
    assert (response.usage.context_tokens, response.usage.cached_tokens) == (3, 2)


async def test_token_logprobs_come_if_asked_for(door: ModelDoor) -> None:
    response = await door.stub.ScoreSegments(scoring(include_token_logprobs=True))
    assert list(response.scores[0].token_logprobs) == [-0.5, -0.25]


async def test_evidence_comes_where_the_backend_has_some(door: ModelDoor) -> None:
    response = await door.stub.ScoreSegments(
        scoring(candidates=[pb.Candidate(text="ab"), pb.Candidate(finished=True)])
    )
    expected = pb.Evidence(
        regret_sum=0.25,
        regret_max=0.25,
        regret_offset=0,
        entropy=1.5,
        weakest_logprob=-0.5,
        weakest_offset=0,
        untold=0.0,
    )
    assert [score.HasField("evidence") for score in response.scores] == [True, False]
    assert response.scores[0].evidence == expected


async def test_calls_of_a_stream_are_answered_as_calls_of_their_own(door: ModelDoor) -> None:
    candidates = [pb.Candidate(text=" né"), pb.Candidate(finished=True)]
    asked = [
        pb.StreamCallsRequest(propose=proposal(max_tokens=7)),
        pb.StreamCallsRequest(score=scoring(candidates=candidates, include_token_logprobs=True)),
        pb.StreamCallsRequest(propose=proposal(seed=3), timeout_seconds=30),
    ]
    stream = door.stub.StreamCalls(iter(asked))
    first, second, third = [answer async for answer in stream]
    by_streams = list(door.backend.requests)
    alone = door.stub.ProposeSegment(asked[0].propose)
    assert first == pb.StreamCallsResponse(propose=await alone)
    assert second == pb.StreamCallsResponse(score=await door.stub.ScoreSegments(asked[1].score))
    assert third.propose == await door.stub.ProposeSegment(asked[2].propose)
    assert door.backend.requests == by_streams * 2
    mark = (await alone.trailing_metadata())["x-specfuse-lineage"]
    assert (await stream.initial_metadata())["x-specfuse-lineage"] == mark


async def test_the_description_of_the_model(door: ModelDoor) -> None:
    assert await door.stub.GetModel(pb.GetModelRequest()) == pb.GetModelResponse(
        name="held",
        revision="r1",
        tokenizer_fingerprint="f1",
        context_window=99,
        backend="scripted",
        capabilities=pb.Capabilities(
            tree_scoring=True, prefix_cache=True, evidence=True, streamed_calls=True
        ),
    )


# --- what is refused ----------------------------------------------------------------------------

BAD_CONTEXTS = {
    "context: is missing": None,
    "context.prompt: is missing": pb.Context(),
    "context.raw_prompt: is 0 bytes; must be 1 to 1048576": raw_context(""),
    "context.raw_prompt: is 1048577 bytes; must be 1 to 1048576": raw_context("x" * 1048577),
    "context.conversation.messages: is 0 messages; must be 1 to 1024": conversation(),
    "context.conversation.messages: is 1025 messages": conversation(*[USER] * 1025),
    "context.conversation.messages: is 1048577 bytes": conversation(
        ASSISTANT, prompt_pb2.Message(role=prompt_pb2.ROLE_USER, content="x" * 1048571)
    ),
    "context.conversation.messages[1].role: is system; only the first": conversation(
        USER, SYSTEM, USER
    ),
    "context.conversation.messages[1].role: is assistant; the last": conversation(USER, ASSISTANT),
    "context.conversation.messages[0].role: is system; the last": conversation(SYSTEM),
    "context.conversation.messages[0].role: is 0; must be ROLE_SYSTEM": conversation(
        prompt_pb2.Message(content="Hi")
    ),
    "context.conversation.messages[0].role: is 9; must be ROLE_SYSTEM": conversation(
        prompt_pb2.Message(role=9, content="Hi")
    ),
    "context.conversation.messages[0].content: is empty": conversation(
        prompt_pb2.Message(role=prompt_pb2.ROLE_USER)
    ),
    "context.committed_segments: is 4097 segments; must be 0 to 4096": raw_context(
        committed_segments=["x"] * 4097
    ),
    "context.committed_segments: is 1048577 bytes; must be 0 to 1048576": raw_context(
        committed_segments=["x" * 1048577]
    ),
    "context.session_id: is 130 bytes; must be 0 to 128": raw_context(session_id="é" * 65),
}
BAD_PROPOSALS = {
    "max_tokens: is 0; must be 1 to 512": {"max_tokens": 0},
    "max_tokens: is 513; must be 1 to 512": {"max_tokens": 513},
    "sampling.temperature: is -0.5; must be 0 to 2": {"sampling": {"temperature": -0.5}},
    "sampling.temperature: is 2.5; must be 0 to 2": {"sampling": {"temperature": 2.5}},
    "sampling.temperature: is nan; must be 0 to 2": {"sampling": {"temperature": float("nan")}},
    "sampling.top_p: is 0.0; must be above 0": {"sampling": {"top_p": 0.0}},
    "sampling.top_p: is 1.5; must be above 0": {"sampling": {"top_p": 1.5}},
    "sampling.top_p: is nan; must be above 0": {"sampling": {"top_p": float("nan")}},
    "sampling.top_k: is 1001; must be 0 to 1000": {"sampling": {"top_k": 1001}},
    "stop: is 17 strings; must be 0 to 16": {"stop": ["x"] * 17},
    "stop[1]: is 0 bytes; must be 1 to 256": {"stop": ["x", ""]},
    "stop[0]: is 258 bytes; must be 1 to 256": {"stop": ["é" * 129]},
}
BAD_SCORINGS = {
    "candidates: is 0 candidates; must be 1 to 64": [],
    "candidates: is 65 candidates; must be 1 to 64": [pb.Candidate(text="x")] * 65,
    "candidates[1].text: is empty; only a finished": [pb.Candidate(finished=True), pb.Candidate()],
    "candidates[0].text: is 16386 bytes; must be 0 to 16384": [pb.Candidate(text="é" * 8193)],
}


def assert_refused(error: SpecFuseError, said: str) -> None:
    assert type(error) is InvalidArgument
    assert error.message.startswith(said)
    assert error.metadata["field"] == said.partition(":")[0]


@pytest.mark.parametrize(("said", "context"), BAD_CONTEXTS.items(), ids=list(BAD_CONTEXTS))
async def test_a_bad_context_is_refused_by_both_calls(
    door: ModelDoor, said: str, context: pb.Context | None
) -> None:
    assert_refused(await error_of(door.stub.ProposeSegment(proposal(context=context))), said)
    assert_refused(await error_of(door.stub.ScoreSegments(scoring(context=context))), said)
    assert not door.backend.requests


@pytest.mark.parametrize(("said", "fields"), BAD_PROPOSALS.items(), ids=list(BAD_PROPOSALS))
async def test_a_bad_proposal_is_refused(
    door: ModelDoor, said: str, fields: dict[str, Any]
) -> None:
    assert_refused(await error_of(door.stub.ProposeSegment(proposal(**fields))), said)
    assert not door.backend.requests


@pytest.mark.parametrize(("said", "candidates"), BAD_SCORINGS.items(), ids=list(BAD_SCORINGS))
async def test_a_bad_scoring_is_refused(
    door: ModelDoor, said: str, candidates: list[pb.Candidate]
) -> None:
    assert_refused(await error_of(door.stub.ScoreSegments(scoring(candidates=candidates))), said)
    assert not door.backend.requests


async def test_a_refusal_gives_value_and_limit_and_no_text(door: ModelDoor) -> None:
    error = await error_of(door.stub.ProposeSegment(proposal(max_tokens=513)))
    assert error.metadata == {"field": "max_tokens", "value": "513", "limit": "512"}
    secret = raw_context("secret" * 200_000)
    assert (
        "secret" not in (await error_of(door.stub.ScoreSegments(scoring(context=secret)))).message
    )


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (pb.StreamCallsRequest(), "call: is missing; give propose or score"),
        (pb.StreamCallsRequest(timeout_seconds=1), "call: is missing"),
        (pb.StreamCallsRequest(propose=proposal(max_tokens=0)), "max_tokens: "),
        (pb.StreamCallsRequest(score=scoring(candidates=[])), "candidates: "),
        (pb.StreamCallsRequest(propose=proposal(), timeout_seconds=-1), "timeout_seconds: is -1"),
        (
            pb.StreamCallsRequest(propose=proposal(), timeout_seconds=math.nan),
            "timeout_seconds: is nan; must be at least 0",
        ),
    ],
)
async def test_a_bad_call_of_a_stream_is_refused_and_ends_it(
    door: ModelDoor, request_: pb.StreamCallsRequest, message: str
) -> None:
    stream = door.stub.StreamCalls()
    await stream.write(pb.StreamCallsRequest(propose=proposal()))
    assert await stream.read() != grpc.aio.EOF
    await stream.write(request_)
    assert_refused(await error_of(stream.read()), message)
    assert (await door.stub.ProposeSegment(proposal())).segment.text == " so"


async def test_bytes_that_are_no_call_end_only_the_stream(door: ModelDoor) -> None:
    async with open_channel(door.server.address) as channel:
        stream = channel.stream_stream("/specfuse.v1.ModelService/StreamCalls")()
        await stream.write(b"\xff\xff")
        error = await error_of(stream.read())
    assert_refused(error, "request: is not a message of this method")
    assert (await door.stub.ProposeSegment(proposal())).segment.text == " so"


async def test_a_timeout_of_a_streams_call_stops_the_backend(held: ModelDoor) -> None:
    stream = held.stub.StreamCalls()
    await stream.write(pb.StreamCallsRequest(propose=proposal(), timeout_seconds=0.05))
    assert isinstance(await error_of(stream.read()), DeadlineExceeded)
    await asyncio.wait_for(held.backend.cancelled.wait(), timeout=5)


async def test_a_half_closed_stream_is_answered_all_that_was_asked(held: ModelDoor) -> None:
    stream = held.stub.StreamCalls()
    for _ in range(3):
        await stream.write(pb.StreamCallsRequest(propose=proposal()))
    await stream.done_writing()
    await held.backend.arrivals.acquire()
    assert len(held.backend.requests) == held.server.calls_in_flight == 1  # one after the other
    held.backend.released.set()
    assert [one.propose.segment.text async for one in stream] == [" so"] * 3
    assert await stream.code() is grpc.StatusCode.OK
    await until(lambda: not held.server.calls_in_flight)


async def test_calls_of_streams_have_the_places_of_calls_and_streams_have_none() -> None:
    backend = HeldBackend()
    limits = Limits(running_calls=1, waiting_calls=1)
    async with open_model_door(backend, limits) as door:
        streams = [door.stub.StreamCalls() for _ in range(3)]
        running, waiting, refused = streams
        for stream in streams:
            await stream.initial_metadata()
        await running.write(pb.StreamCallsRequest(propose=proposal()))
        await backend.arrivals.acquire()
        await waiting.write(pb.StreamCallsRequest(propose=proposal()))
        await until(lambda: door.metric("specfuse_model_requests_waiting") == 1)
        await refused.write(pb.StreamCallsRequest(propose=proposal()))
        assert isinstance(await error_of(refused.read()), Overloaded)
        waiting.cancel()
        await until(lambda: door.metric("specfuse_model_requests_waiting") == 0)
        running.cancel()
        await asyncio.wait_for(backend.cancelled.wait(), timeout=5)
        backend.released.set()
        again = door.stub.StreamCalls()
        await again.write(pb.StreamCallsRequest(propose=proposal()))
        assert (await again.read()).propose.segment.text == " so"
        await until(lambda: not door.server.calls_in_flight)


async def test_of_too_many_idle_streams_the_one_idle_for_longest_ends(
    door: ModelDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("specfuse.rpc.in_flight.MOST_IDLE_STREAMS", 3)
    asked = pb.StreamCallsRequest(propose=proposal())
    streams = []
    for _ in range(4):
        streams.append(door.stub.StreamCalls())
        await streams[-1].initial_metadata()
    first, second, third, fourth = streams
    assert await first.read() is grpc.aio.EOF
    assert await first.code() is grpc.StatusCode.OK
    await second.write(asked)
    assert (await second.read()).propose.segment.text == " so"
    fifth = door.stub.StreamCalls()
    assert await third.read() is grpc.aio.EOF  # idle for longer than the second
    for stream in (second, fourth, fifth):
        await stream.write(asked)
        assert (await stream.read()).propose.segment.text == " so"


async def test_text_that_is_not_utf8_harms_nobody(door: ModelDoor) -> None:
    valid = proposal(context=raw_context("marked")).SerializeToString()
    call = door.server  # the raw bytes go over a channel of their own
    async with open_channel(call.address) as channel:
        method = channel.unary_unary("/specfuse.v1.ModelService/ProposeSegment")
        error = await error_of(method(valid.replace(b"marked", b"\xff\xfe\xfa\xfb\xfc\xfd")))
    assert_refused(error, "request: is not a message of this method")
    assert (await door.stub.ProposeSegment(proposal())).segment.text == " so"


async def test_limits_may_be_lowered() -> None:
    limits = Limits(segment_tokens=8, candidates=1, candidate_bytes=4, prompt_bytes=8)
    async with open_model_door(limits=limits) as door:
        context = raw_context("Once")
        errors = [
            await error_of(door.stub.ProposeSegment(proposal(context=context, max_tokens=9))),
            await error_of(door.stub.ProposeSegment(proposal())),
            await error_of(
                door.stub.ScoreSegments(
                    scoring(context=context, candidates=[pb.Candidate(text="12345")])
                )
            ),
        ]
        assert [error.metadata["limit"] for error in errors] == ["8", "8", "4"]


async def test_the_backends_errors_reach_the_caller() -> None:
    for raised in (Overloaded("no memory"), ModelFailure("NaN"), Unavailable("gone")):
        backend = HeldBackend(raises=raised)
        backend.released.set()
        async with open_model_door(backend) as door:
            error = await error_of(door.stub.ProposeSegment(proposal()))
            assert (type(error), error.message) == (type(raised), raised.message)


# --- how many, how long -------------------------------------------------------------------------


async def test_too_many_calls_are_refused_at_once(held: ModelDoor) -> None:
    running = [asyncio.ensure_future(held.stub.ProposeSegment(proposal())) for _ in range(2)]
    for _ in running:
        await held.backend.arrivals.acquire()
    waiting = asyncio.ensure_future(held.stub.ScoreSegments(scoring()))
    await until(lambda: held.metric("specfuse_model_requests_waiting") == 1)
    assert held.metric("specfuse_model_requests_running") == 2

    error = await error_of(held.stub.ProposeSegment(proposal(), timeout=5))
    assert type(error) is Overloaded
    assert "2 calls run and 1 wait" in error.message

    held.backend.released.set()
    assert len(await asyncio.gather(*running, waiting)) == 3
    assert held.metric("specfuse_model_requests_running") == 0
    assert held.metric("specfuse_model_requests_waiting") == 0
    waits = held.metric("specfuse_model_queue_duration_seconds_count", stage="admission")
    assert waits == 3


async def test_a_caller_that_goes_away_stops_the_backend(held: ModelDoor) -> None:
    call = held.stub.ProposeSegment(proposal())
    await held.backend.arrivals.acquire()
    call.cancel()
    await asyncio.wait_for(held.backend.cancelled.wait(), timeout=5)
    await until(lambda: held.metric("specfuse_model_requests_running") == 0)


async def test_a_caller_that_goes_away_while_waiting_leaves_its_place(held: ModelDoor) -> None:
    running = [asyncio.ensure_future(held.stub.ProposeSegment(proposal())) for _ in range(2)]
    for _ in running:
        await held.backend.arrivals.acquire()
    waiting = held.stub.ScoreSegments(scoring())
    await until(lambda: held.metric("specfuse_model_requests_waiting") == 1)
    waiting.cancel()
    await until(lambda: held.metric("specfuse_model_requests_waiting") == 0)
    held.backend.released.set()
    await asyncio.gather(*running)
    assert len(held.backend.requests) == 2


async def test_the_callers_deadline_reaches_and_stops_the_backend(held: ModelDoor) -> None:
    error = await error_of(held.stub.ProposeSegment(proposal(), timeout=0.2))
    assert type(error) is DeadlineExceeded
    await asyncio.wait_for(held.backend.cancelled.wait(), timeout=5)
    assert held.backend.deadlines[0].remaining < 0.2


async def test_a_call_without_a_deadline_has_the_limits() -> None:
    backend = HeldBackend()
    async with open_model_door(backend, Limits(call_seconds=0.05)) as door:
        error = await error_of(door.stub.ScoreSegments(scoring()))
        assert type(error) is DeadlineExceeded
        assert backend.cancelled.is_set()


async def until(condition: Any) -> None:
    """Lets the event loop run until the condition holds."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 (a number has no event)
            await asyncio.sleep(0)


# --- a whole service, built as it is in production ----------------------------------------------

SCRIPT = """
name: teller
listen: 127.0.0.1:0
metrics_listen: 127.0.0.1:0
backend: scripted
drain_seconds: 5
scripted:
  lines:
    - when: sulk
      fails: unavailable
    - when: wait
      seconds: 0.2
      answer: " At last."
    - when: forever
      hangs: true
    - answer: " Once upon a time there was a model."
"""


@pytest.fixture
def script() -> Settings:
    return Settings.parse(SCRIPT, source="script.yaml")


@pytest.fixture
def ports_in_use() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


async def test_a_service_from_its_settings(script: Settings) -> None:
    running = await start(script)
    try:
        async with open_channel(running.address) as channel:
            stub = ModelServiceStub(channel)
            response = await stub.ProposeSegment(proposal(max_tokens=3))
            assert response.segment.text == " Once upon a"
            assert response.segment.own_score.token_count == 3
            assert (await stub.GetModel(pb.GetModelRequest())).name == "teller"
            refused = raw_context("sulk")
            assert type(await error_of(stub.ProposeSegment(proposal(context=refused)))) is (
                Unavailable
            )
        url = f"http://{running.metrics_address}/metrics"
        text = await asyncio.to_thread(lambda: urlopen(url).read().decode())
        assert (
            'specfuse_model_queue_duration_seconds_count{model_name="teller",stage="batch"} 2.0'
            in (text)
        )
        assert 'specfuse_model_kv_tokens_total{model_name="teller",outcome="hit"} 0.0' in text
        assert "process_resident_memory_bytes" in text
    finally:
        await running.stop()
        await running.stop()


async def test_health_and_reflection(script: Settings) -> None:
    running = await start(script)
    try:
        async with open_channel(running.address) as channel:
            for service in ("", "specfuse.v1.ModelService"):
                health = await HealthStub(channel).Check(
                    health_pb2.HealthCheckRequest(service=service)
                )
                assert health.status == health_pb2.HealthCheckResponse.SERVING
            asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
            replies = ServerReflectionStub(channel).ServerReflectionInfo(asked)
            names = [s.name async for r in replies for s in r.list_services_response.service]
            assert "specfuse.v1.ModelService" in names
    finally:
        await running.stop()


async def test_a_drain_lets_calls_in_flight_finish(script: Settings) -> None:
    running = await start(script)
    async with open_channel(running.address) as channel:
        call = ModelServiceStub(channel).ProposeSegment(proposal(context=raw_context("wait")))
        await until(lambda: running.doors[GRPC].calls_in_flight == 1)
        await running.drain()
        assert (await call).segment.text == " At last."
        error = await error_of(ModelServiceStub(channel).ProposeSegment(proposal()))
        assert type(error) is Unavailable


async def test_stopping_does_not_wait(script: Settings) -> None:
    running = await start(script)
    async with open_channel(running.address) as channel:
        context = raw_context("forever")
        call = ModelServiceStub(channel).ProposeSegment(proposal(context=context))
        await until(lambda: running.doors[GRPC].calls_in_flight == 1)
        await asyncio.wait_for(running.stop(), timeout=5)
        await error_of(call)


@pytest.mark.parametrize("key", ["listen", "metrics_listen"])
async def test_a_port_in_use(script: Settings, ports_in_use: str, key: str) -> None:
    settings = script.model_copy(update={key: ports_in_use})
    with pytest.raises(Misconfigured, match=f"^{key}: cannot bind {ports_in_use}: .*port 0 for a"):
        await start(settings)


async def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    settings = Settings.parse(
        "name: gone\nlisten: 127.0.0.1:0\nmetrics_listen: 127.0.0.1:0\n"
        f"torch:\n  model: {tmp_path}/missing\n",
        source="settings.yaml",
    )
    with pytest.raises(
        Misconfigured, match=r"torch\.model: there is no directory .*/missing; give"
    ):
        await start(settings)


async def test_tls_files_that_are_not_there(script: Settings, tmp_path: Path) -> None:
    document = script.model_dump(mode="json") | {
        "tls": {"certificate": str(tmp_path / "none.pem"), "key": str(tmp_path / "none.key")}
    }
    with pytest.raises(Misconfigured, match=r"tls\.key .*none\.key: cannot be read"):
        await start(Settings.model_validate(document))
