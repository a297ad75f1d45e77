"""Requests that are a little off, over the wire: each is answered, or refused for what is wrong."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass

import grpc
import pytest
import pytest_asyncio
from google.protobuf.message import Message

from specfuse.rpc.channels import open_channel
from specfuse.v1 import fuser_service_pb2 as fuser_pb
from specfuse.v1 import model_service_pb2 as model_pb
from specfuse.v1 import prompt_pb2
from tests.robustness import questions
from tests.robustness.mesh import Mesh, Shape, experts, running_mesh
from tests.robustness.mutations import Mutation, mutations

pytestmark = pytest.mark.asyncio(loop_scope="module")

MEANT = {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}
"""How a call with a mutation may end."""

AT_THE_SAME_TIME = 8
SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Method:
    """A method, whose service it is, and a valid request that says something in every field."""

    path: str
    service: str
    valid: Message

    def __str__(self) -> str:
        return self.path.rpartition("/")[2]


PROMPT = prompt_pb2.Conversation(
    messages=[
        prompt_pb2.Message(role=prompt_pb2.ROLE_SYSTEM, content="Be brief."),
        prompt_pb2.Message(role=prompt_pb2.ROLE_USER, content=questions.QUESTIONS[0]),
    ]
)
SAMPLING = prompt_pb2.Sampling(temperature=0.5, top_p=0.9, top_k=5)
CONTEXT = model_pb.Context(
    conversation=PROMPT, committed_segments=["The", " capital"], session_id="s"
)
METHODS = (
    Method(
        "/specfuse.v1.FuserService/Generate",
        "fuser",
        fuser_pb.GenerateRequest(
            ensemble="all",
            conversation=PROMPT,
            max_tokens=8,
            stop=["Rome"],
            sampling=SAMPLING,
            seed=1,
            overrides=fuser_pb.Overrides(
                segment_tokens=4,
                statistic=fuser_pb.STATISTIC_PER_BYTE,
                weighting=fuser_pb.WEIGHTING_HEDGE,
                exit_policy=fuser_pb.EXIT_POLICY_ENTROPY_SOFTMAX,
                recall=True,
                self_judgement=False,
                fast_finish=True,
            ),
            committed_segments=["The", " capital"],
            committed_tokens=2,
            session_id="s",
        ),
    ),
    Method("/specfuse.v1.FuserService/ListEnsembles", "fuser", fuser_pb.ListEnsemblesRequest()),
    Method(
        "/specfuse.v1.ModelService/ProposeSegment",
        "model",
        model_pb.ProposeSegmentRequest(
            context=CONTEXT, max_tokens=4, sampling=SAMPLING, stop=["Rome"], seed=1
        ),
    ),
    Method(
        "/specfuse.v1.ModelService/ScoreSegments",
        "model",
        model_pb.ScoreSegmentsRequest(
            context=CONTEXT,
            candidates=[
                model_pb.Candidate(text=" of Greece"),
                model_pb.Candidate(text=" of Italy", finished=True),
            ],
            include_token_logprobs=True,
        ),
    ),
    Method("/specfuse.v1.ModelService/GetModel", "model", model_pb.GetModelRequest()),
)


def of_one_script() -> Shape:
    """One scripted member and one fuser."""
    return Shape(
        models={"alpha": questions.script("alpha", seconds=0.0)},
        ensemble={"members": ["alpha"]},
        questions=questions.QUESTIONS,
        fusers=1,
    )


def of_one_expert() -> Shape:
    """One of the experts that are shipped, on the torch engine, and one fuser."""
    name, settings = next(iter(experts().models.items()))
    return Shape(
        models={name: settings},
        ensemble={"members": [name]},
        questions=questions.QUESTIONS,
        fusers=1,
    )


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=[of_one_script, pytest.param(of_one_expert, marks=pytest.mark.robustness)],
)
async def mesh(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Mesh]:
    async with running_mesh(request.param(), tmp_path_factory.mktemp("mesh")) as mesh:
        yield mesh


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.timeout(600)
async def test_a_mutated_request_is_answered_or_refused_for_what_is_wrong(
    mesh: Mesh, method: Method
) -> None:
    codes = await codes_of(mesh, method, list(mutations(method.valid)))
    wrong = {str(one): code for one, code in codes.items() if code not in MEANT}
    assert wrong == {}
    counts = Counter(codes.values())
    assert counts[grpc.StatusCode.OK] * 2 > counts.total(), counts
    for node in mesh.nodes.values():
        assert "Traceback" not in node.log


async def codes_of(
    mesh: Mesh, method: Method, tried: list[Mutation]
) -> dict[Mutation, grpc.StatusCode]:
    """How a call with each of the mutations ends."""
    node = next(node for name, node in mesh.nodes.items() if is_of(name, method.service))
    left = iter(tried)
    codes = {}

    async def keep_calling() -> None:
        for mutation in left:
            codes[mutation] = await code_of(channel, method, mutation.request)

    async with open_channel(node.address) as channel, asyncio.TaskGroup() as group:
        for _ in range(AT_THE_SAME_TIME):
            group.create_task(keep_calling())
    return codes


def is_of(name: str, service: str) -> bool:
    return name.startswith("fuser") == (service == "fuser")


async def code_of(channel: grpc.aio.Channel, method: Method, request: bytes) -> grpc.StatusCode:
    """How a call with these bytes ends. All methods can be called as if they streamed."""
    call = channel.unary_stream(method.path)(request, timeout=SECONDS)
    try:
        async for _ in call:
            pass
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK
