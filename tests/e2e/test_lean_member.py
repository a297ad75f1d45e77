"""A member whose model runs on a server elsewhere serves where nothing is that runs models."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest
import yaml

from specfuse.localmesh import ServiceAddresses
from specfuse.rpc.channels import open_channel
from specfuse.v1 import model_service_pb2 as pb
from specfuse.v1 import prompt_pb2
from specfuse.v1.model_service_pb2_grpc import ModelServiceStub
from tests.support import tiny_models
from tests.support.command import running
from tests.support.gguf_models import write_gguf
from tests.support.llama_server import llama_server, needs_llama_server
from tests.support.remote_subjects import ARCHITECTURE, made_up

pytestmark = pytest.mark.timeout(300)

LACKING = ("accelerate", "numpy", "safetensors", "torch", "transformers")
PATIENCE_SECONDS = 60
MESSAGE = prompt_pb2.Message(role=prompt_pb2.ROLE_USER, content="What is up?")
CONTEXT = pb.Context(
    conversation=prompt_pb2.Conversation(messages=[MESSAGE]), committed_segments=["It is"]
)


@asynccontextmanager
async def served(kind: str, model: Path) -> AsyncIterator[str]:
    """A server of a kind: the real one where it can run here, else a made-up one."""
    if kind != "llama_cpp":
        async with made_up(kind) as url:
            yield url
        return
    with ExitStack() as stack:
        write_gguf(model, model / "model.gguf")
        flags = ("--ctx-size", "2048", "--parallel", "2")
        yield await asyncio.to_thread(
            stack.enter_context, llama_server(model / "model.gguf", *flags)
        )


def without_libraries(directory: Path) -> tuple[str, ...]:
    """A command that runs another to which what is `LACKING` cannot be imported."""
    for name in LACKING:
        (directory / name).mkdir(parents=True)
        lacking = f"raise ModuleNotFoundError('there is no {name}', name='{name}')"
        (directory / name / "__init__.py").write_text(lacking)
    paths = (str(directory), os.environ.get("PYTHONPATH", ""))
    return ("env", f"PYTHONPATH={os.pathsep.join(filter(None, paths))}")


@pytest.mark.parametrize(
    "kind", ["sglang", "tgi", "vllm", pytest.param("llama_cpp", marks=needs_llama_server)]
)
async def test_it_serves_without_the_libraries_that_run_models(tmp_path: Path, kind: str) -> None:
    model = tmp_path / "model"
    tiny_models.save(ARCHITECTURE, model)
    file = tmp_path / "member.yaml"
    ports = ("--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0")
    lacking = without_libraries(tmp_path / "lacking")
    async with served(kind, model) as url:
        section = {"url": url, "tokenizer": str(model), "local_files_only": True}
        file.write_text(yaml.safe_dump({"name": "lean", "backend": kind, kind: section}))
        with ExitStack() as stack:
            serving = running("model", "serve", str(file), *ports, prefix=lacking)
            member = await asyncio.to_thread(stack.enter_context, serving)
            await ask(ServiceAddresses(**member.ready), kind)
            await asyncio.to_thread(stack.close)


async def ask(member: ServiceAddresses, kind: str) -> None:
    """Has it draft and score in a conversation, for which it needs its own tokenizer."""
    async with open_channel(member.address) as channel:
        stub = ModelServiceStub(channel)
        model = await stub.GetModel(pb.GetModelRequest(), timeout=PATIENCE_SECONDS)
        drafting = pb.ProposeSegmentRequest(context=CONTEXT, max_tokens=5)
        drafted = await stub.ProposeSegment(drafting, timeout=PATIENCE_SECONDS)
        candidates = [pb.Candidate(text=" so"), pb.Candidate(text=" not so", finished=True)]
        scoring = pb.ScoreSegmentsRequest(context=CONTEXT, candidates=candidates)
        scored = await stub.ScoreSegments(scoring, timeout=PATIENCE_SECONDS)
    assert model.backend == kind
    assert drafted.segment.token_count > 0
    assert all(score.token_count > 0 > score.logprob_sum for score in scored.scores)
    assert len(scored.scores) == len(candidates)
