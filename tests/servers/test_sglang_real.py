"""The SGLang backend and a live SGLang: does it keep what the fake of it promises?

    python -m sglang.launch_server --model-path DIR --dtype float32 --enable-metrics \\
        --enable-deterministic-inference
    SGLANG_URL=http://127.0.0.1:30000 SGLANG_MODEL=DIR make test-servers

`SGLANG_MODEL` is the directory of the model that it runs, whose log-probabilities transformers
computes here. `SGLANG_TOLERANCE` is how far the server's may be off.
"""

from __future__ import annotations

import asyncio
import os

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from model_service.backends.sglang.settings import SglangSection
from model_service.core.types import Context, ProposeRequest
from tests.support.served_model import (
    CHECKS,
    PATIENCE_SECONDS,
    Check,
    ServedModel,
    named,
    patience,
    server_of,
)

URL = os.environ.get("SGLANG_URL", "")
MODEL = os.environ.get("SGLANG_MODEL", "")
TOLERANCE = float(os.environ.get("SGLANG_TOLERANCE", "1e-3"))
LONG = ProposeRequest(Context("Once"), 400)

pytestmark = [
    pytest.mark.skipif(not (URL and MODEL), reason="needs SGLANG_URL and SGLANG_MODEL"),
    pytest.mark.servers,
    pytest.mark.timeout(2 * PATIENCE_SECONDS),
]


@pytest.fixture(scope="module")
def reference() -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()


@pytest.fixture
def served(reference: PreTrainedModel) -> ServedModel:
    section = SglangSection(url=URL, tokenizer=MODEL, max_context_tokens=512)
    return ServedModel(section, reference, TOLERANCE)


@pytest.mark.parametrize("check", CHECKS, ids=named)
async def test_it_keeps_the_contract(check: Check, served: ServedModel) -> None:
    await check(served)


async def test_cancelling_a_call_ends_the_servers_work(served: ServedModel) -> None:
    """Nobody else may be using the server. It looks for lost callers every few seconds."""
    async with served.backend() as backend:
        task = asyncio.create_task(backend.propose(LONG, patience()))
        for running in (1, 0):
            async with asyncio.timeout(PATIENCE_SECONDS):
                load = await server_of(backend).load(patience())
                while load is None or load.running != running:
                    load = await server_of(backend).load(patience())
            task.cancel()
