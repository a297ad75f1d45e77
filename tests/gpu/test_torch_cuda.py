"""The torch engine on a CUDA device: the model's own numbers there, alone and in company."""

from __future__ import annotations

import asyncio
from copy import deepcopy

import pytest
import torch

from model_service.backends.torch.backend import EngineLimits, backend_for
from model_service.backends.torch.engine.packed import PackedEngine
from model_service.backends.torch.loading import LoadedModel
from model_service.backends.torch.scheduler import BatchLimits
from model_service.core.types import Candidate, Context, ProposeRequest, ScoreRequest
from specfuse.deadline import Deadline
from tests.support import tiny_models
from tests.support.observers import RecordingObserver
from tests.support.torch_serving import assert_plain, generated, plainly_scored

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

NEVER = Deadline.never()
CONTEXTS = tuple(Context(f"Question {number}: why?", (" The capital",)) for number in range(6))
CANDIDATES = (
    Candidate(" of France is Paris", finished=True),
    Candidate(" 42 + 17 = 59", finished=False),
)


def on_cuda(architecture: str, dtype: torch.dtype) -> LoadedModel:
    loaded = tiny_models.loaded(architecture)
    model = torch.nn.Module.to(deepcopy(loaded.model), device="cuda", dtype=dtype)
    return LoadedModel(model, loaded.tokenizer, loaded.window, loaded.revision)


@pytest.mark.parametrize("architecture", tiny_models.PACKED)
async def test_answers_in_company_are_those_of_the_model_on_the_cpu(architecture: str) -> None:
    limits = EngineLimits(1 << 26, BatchLimits(tokens=64, calls=16))
    loaded = on_cuda(architecture, torch.float32)
    backend = backend_for(architecture, loaded, limits, RecordingObserver())
    try:
        proposals = await asyncio.gather(
            *(backend.propose(ProposeRequest(context, 8), NEVER) for context in CONTEXTS)
        )
        scores = await asyncio.gather(
            *(backend.score(ScoreRequest(context, CANDIDATES), NEVER) for context in CONTEXTS)
        )
    finally:
        await backend.close()
    for context, proposal, scored in zip(CONTEXTS, proposals, scores, strict=True):
        assert proposal.text == generated(backend, architecture, context, 8)
        for found, candidate in zip(scored.scores, CANDIDATES, strict=True):
            assert_plain(found, plainly_scored(backend, architecture, context, candidate))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
async def test_half_precision_runs_packed(dtype: torch.dtype) -> None:
    limits = EngineLimits(1 << 26, BatchLimits(tokens=64, calls=16))
    backend = backend_for("llama", on_cuda("llama", dtype), limits, RecordingObserver())
    try:
        assert isinstance(backend._scheduler._engine, PackedEngine)
        scores = await backend.score(ScoreRequest(CONTEXTS[0], CANDIDATES), NEVER)
    finally:
        await backend.close()
    for found, candidate in zip(scores.scores, CANDIDATES, strict=True):
        own = plainly_scored(backend, "llama", CONTEXTS[0], candidate)
        assert found.logprob_sum == pytest.approx(own.score.logprob_sum, rel=0.05)
