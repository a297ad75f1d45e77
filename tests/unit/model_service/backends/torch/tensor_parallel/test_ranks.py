"""A model split over two processes: its own numbers, half of them in each, and one end for both."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml

from model_service.backends.torch.backend import TorchBackend, open_backend
from model_service.backends.torch.loading import check_divisible
from model_service.backends.torch.settings import TorchSection
from model_service.backends.torch.tensor_parallel.mirror import MirroredEngine
from model_service.backends.torch.tensor_parallel.ranks import Ranks
from model_service.core.types import Candidate, Context, ProposeRequest, ScoreRequest
from model_service.ports import BackendHost
from specfuse.deadline import Deadline
from specfuse.errors import Misconfigured, Unavailable
from tests.support import tiny_models
from tests.support.command import running
from tests.support.observers import RecordingObserver
from tests.support.processes import wait_until_gone
from tests.support.torch_serving import assert_plain, generated, plainly_scored

NEVER = Deadline.never()
QUESTION = "What is the capital of France, and what is 42 + 17?"
CANDIDATES = (
    Candidate(" The capital of France", finished=False),
    Candidate(" Paris", finished=True),
    Candidate("", finished=True),
)
starts_processes = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("llama")
    tiny_models.save("llama", path)
    return path


def settings(directory: Path, parts: int = 2) -> TorchSection:
    return TorchSection(
        model=str(directory),
        local_files_only=True,
        device="cpu",
        tensor_parallel=parts,
        kv_cache_bytes=1 << 17,
        max_batch_tokens=24,
        threads=1,
    )


@asynccontextmanager
async def split(directory: Path, lost: threading.Event) -> AsyncIterator[TorchBackend]:
    host = BackendHost("llama", RecordingObserver(), lost.set)
    backend = await open_backend(settings(directory), host)
    try:
        yield backend
    finally:
        await asyncio.wait_for(backend.close(), 30)


def ranks_of(backend: TorchBackend) -> Ranks:
    assert isinstance(backend._engine, MirroredEngine)
    assert isinstance(backend._engine._followers, Ranks)
    return backend._engine._followers


class TestSplit:
    pytestmark = starts_processes

    async def test_it_gives_the_models_own_numbers_until_a_process_is_lost(
        self, directory: Path
    ) -> None:
        lost = threading.Event()
        async with split(directory, lost) as backend:
            (layer, *_) = backend._engine._engine._store._layout.layers
            assert layer.heads * 2 == tiny_models.reference("llama").config.num_key_value_heads
            await asyncio.gather(*(answers_are_right(backend, number) for number in range(3)))
            assert not lost.is_set()
            (pid,) = ranks_of(backend).pids
            os.kill(pid, signal.SIGKILL)
            for _ in range(2):
                call = backend.propose(ProposeRequest(Context(QUESTION), 8), NEVER)
                with pytest.raises(Unavailable, match="must be restarted"):
                    await asyncio.wait_for(call, 20)
            assert await asyncio.to_thread(lost.wait, 20)

    async def test_closing_ends_the_other_process(self, directory: Path) -> None:
        lost = threading.Event()
        async with split(directory, lost) as backend:
            (pid,) = ranks_of(backend).pids
            await backend.propose(ProposeRequest(Context(QUESTION), 8), NEVER)
        wait_until_gone(pid)
        assert not lost.is_set()

    def test_the_service_ends_if_it_loses_a_process_and_takes_the_others_along(
        self, directory: Path, tmp_path: Path
    ) -> None:
        torch = settings(directory).model_dump(exclude_defaults=True)
        free = {"listen": "127.0.0.1:0", "metrics_listen": "127.0.0.1:0"}
        file = tmp_path / "model.yaml"
        file.write_text(yaml.safe_dump({"name": "llama", "torch": torch} | free))
        with running("model", "serve", str(file)) as service:
            os.kill(follower_of(service.pid), signal.SIGKILL)
            code, _, said = service.wait()
            assert code == 1
            assert "a restart is needed" in said
        with running("model", "serve", str(file)) as service:
            follower = follower_of(service.pid)
            service.process.kill()
            wait_until_gone(follower)


async def answers_are_right(backend: TorchBackend, number: int) -> None:
    context = Context(f"{number}. {QUESTION}")
    for _ in range(3):
        scores = await backend.score(ScoreRequest(context, CANDIDATES), NEVER)
        for candidate, found in zip(CANDIDATES, scores.scores, strict=True):
            assert_plain(found, plainly_scored(backend, "llama", context, candidate))
        proposal = await backend.propose(ProposeRequest(context, 8), NEVER)
        assert proposal.text == generated(backend, "llama", context, 8)
        context = Context(context.prompt, (*context.committed, proposal.text or " and"))


def follower_of(pid: int) -> int:
    """The child that runs `_follow`; multiprocessing has another that cleans up."""
    for child in Path(f"/proc/{pid}/task").glob("*/children"):
        for found in child.read_text().split():
            if "spawn_main" in Path(f"/proc/{found}/cmdline").read_text():
                return int(found)
    raise AssertionError("the service has no follower")


def test_heads_must_divide(directory: Path) -> None:
    with pytest.raises(Misconfigured) as caught:
        check_divisible(settings(directory, 4))
    said = "torch.tensor_parallel: 4: must divide the model's 4 heads and its 2 key-value heads"
    assert said in caught.value.message


def test_models_without_a_plan_are_refused(tmp_path: Path) -> None:
    tiny_models.save("gpt2", tmp_path)
    with pytest.raises(Misconfigured, match=r"no plan for splitting gpt2 models; use 1"):
        check_divisible(settings(tmp_path))
