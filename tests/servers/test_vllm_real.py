"""The vLLM backend and a real vLLM that runs a tiny model on this machine's processors.

tests/servers/install_vllm.sh .servers/vllm     minutes, 3.4 GB
make test-servers
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from model_service.backends.remote.backend import RemoteBackend
from model_service.backends.vllm.settings import VllmSection
from model_service.core.types import Candidate, Context, Proposal, ProposeRequest, ScoreRequest
from specfuse.errors import Unavailable
from tests.support import tiny_models
from tests.support.served_model import (
    CHECKS,
    CONTEXTS,
    PATIENCE_SECONDS,
    Check,
    ServedModel,
    named,
    patience,
)
from tests.support.vllm_server import START_SECONDS, VllmServer, needs_vllm_server, vllm_server

ARCHITECTURE = "llama_served"
NAME = "tiny"
TOKENS = 900
LONG = ProposeRequest(Context("เมืองหลวงของฝรั่งเศส"), TOKENS)
"""The model does not end this by itself, and needs seconds for it."""

SCORING = ScoreRequest(CONTEXTS[0], (Candidate(" and", finished=False),))
GENERATED = "vllm:generation_tokens_total"

pytestmark = [
    needs_vllm_server,
    pytest.mark.servers,
    pytest.mark.timeout(2 * START_SECONDS + PATIENCE_SECONDS),
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vllm")


@pytest.fixture(scope="module")
def model(directory: Path) -> Path:
    tiny_models.save(ARCHITECTURE, directory / "model")
    return directory / "model"


@pytest.fixture(scope="module")
def process(directory: Path) -> Iterator[VllmServer]:
    with vllm_server(directory) as process:
        yield process


@pytest.fixture
def server(process: VllmServer, model: Path) -> VllmServer:
    """The server, running. A start takes minutes, so only a test that kills it causes another."""
    if not process.runs:
        process.start(model, NAME)
    return process


@pytest.fixture
def served(server: VllmServer, model: Path) -> ServedModel:
    section = VllmSection(url=server.url, tokenizer=str(model))
    return ServedModel(section, tiny_models.reference(ARCHITECTURE))


@pytest.mark.parametrize("check", CHECKS, ids=named)
async def test_it_keeps_the_contract(check: Check, served: ServedModel) -> None:
    await check(served)


async def test_cancelling_a_call_ends_the_servers_work(
    served: ServedModel, server: VllmServer
) -> None:
    async with served.backend() as backend:
        task, before = await _call_at_work(backend, server)
        task.cancel()
        await _until_idle(server)
        assert server.metric(GENERATED) - before < TOKENS


async def test_a_server_that_is_killed_in_mid_call_and_comes_back_as_another_is_refused(
    served: ServedModel, server: VllmServer, model: Path
) -> None:
    """Not even its scores count, which would look like any others."""
    async with served.backend() as backend:
        task, _ = await _call_at_work(backend, server)
        server.kill()
        with pytest.raises(Unavailable):
            await task
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await served.readiness.get() is False
        other = model.with_name("other")
        tiny_models.save(ARCHITECTURE, other)
        try:
            await asyncio.to_thread(server.start, other, NAME)
            async with asyncio.timeout(PATIENCE_SECONDS):
                while "it runs tiny of" not in await _refusal(backend):
                    pass
            assert served.readiness.empty()
        finally:
            server.kill()


async def _call_at_work(
    backend: RemoteBackend, server: VllmServer
) -> tuple[asyncio.Task[Proposal], float]:
    """A call that the server is working on, and how many tokens it had generated before.

    Only its metrics say so. Where they come too late, another call is made.
    """
    while True:
        before = server.metric(GENERATED)
        call = asyncio.create_task(backend.propose(LONG, patience()))
        while not call.done():
            if await _running(server):
                return call, before
        assert (await call).token_count > TOKENS // 2


async def _refusal(backend: RemoteBackend) -> str:
    """Why no scores are to be had."""
    with pytest.raises(Unavailable) as refused:
        await backend.score(SCORING, patience())
    return refused.value.message


async def _until_idle(server: VllmServer) -> None:
    """Returns once the server works on nothing."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await _running(server):
            pass


async def _running(server: VllmServer) -> bool:
    return await asyncio.to_thread(server.metric, "vllm:num_requests_running") > 0
