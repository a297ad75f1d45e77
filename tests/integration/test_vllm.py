"""What is particular to vLLM's server, over HTTP to a fake of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from model_service.backends.remote.backend import RemoteBackend
from model_service.core.types import ProposeRequest, Sampling, ScoreRequest
from specfuse.errors import ContextTooLong, Misconfigured, Overloaded, Unavailable
from tests.support import tiny_models
from tests.support.fakes.served import ARCHITECTURE, faked
from tests.support.fakes.vllm import FakeVllm
from tests.support.served_model import (
    CANDIDATES,
    CONTEXTS,
    patience,
    server_of,
    tokenized,
)

COMPLETIONS = "/v1/completions"
PROPOSAL = ProposeRequest(CONTEXTS[0], 8)
SCORING = ScoreRequest(CONTEXTS[0], CANDIDATES)
SAMPLING = {
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "max_tokens",
}
"""All that a model's generation_config.json may say of sampling."""


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tokenizer")
    tiny_models.tokenizer(ARCHITECTURE).save_pretrained(directory)
    return directory


@pytest.fixture
async def fake() -> AsyncIterator[FakeVllm]:
    async with FakeVllm() as fake:
        yield fake


@pytest.fixture
async def backend(fake: FakeVllm, tokenizer: Path) -> AsyncIterator[RemoteBackend]:
    async with faked(fake, tokenizer).backend() as backend:
        yield backend


async def test_it_describes_the_server(backend: RemoteBackend) -> None:
    model = backend.model
    assert (model.backend, model.context_window) == ("vllm", 1023)
    assert model.revision.endswith(", vLLM 0.32.0")
    assert model.capabilities.own_scores
    assert not model.capabilities.prefix_cache  # scoring computes every context anew


async def test_the_models_own_defaults_do_not_count(fake: FakeVllm, backend: RemoteBackend) -> None:
    plain = await backend.propose(PROPOSAL, patience())
    fake.generation_config = {"temperature": 1.5, "top_k": 3, "top_p": 0.5, "seed": 4}
    assert (await backend.propose(PROPOSAL, patience())).text == plain.text
    assert all(body.keys() >= SAMPLING for body in fake.bodies(COMPLETIONS))


async def test_the_only_model_needs_no_name(fake: FakeVllm, tokenizer: Path) -> None:
    fake.adapters = ("poet", "clerk")
    with pytest.raises(Misconfigured, match=r"served_model: .*name one: tiny, poet, clerk"):
        async with faked(fake, tokenizer).backend():
            pass
    async with faked(fake, tokenizer, served_model="poet").backend() as backend:
        await backend.propose(PROPOSAL, patience())
    assert {body["model"] for body in fake.bodies(COMPLETIONS)} == {"poet"}
    assert backend.model.context_window == 1023


async def test_a_model_that_is_not_there_is_a_wrong_setting(
    fake: FakeVllm, tokenizer: Path
) -> None:
    with pytest.raises(Misconfigured, match=r"vllm\.served_model: poet: .* but has: tiny"):
        async with faked(fake, tokenizer, served_model="poet").backend():
            pass


async def test_processed_numbers_are_no_scores(fake: FakeVllm, tokenizer: Path) -> None:
    fake.processed_logprobs = True
    async with faked(fake, tokenizer).backend() as backend:
        assert not backend.model.capabilities.own_scores
        assert (await backend.propose(PROPOSAL, patience())).own_score is None


async def test_what_is_cached_need_not_be_told(fake: FakeVllm, tokenizer: Path) -> None:
    fake.prompt_tokens_details = False
    async with faked(fake, tokenizer).backend() as backend:
        for _ in range(2):
            proposal = await backend.propose(PROPOSAL, patience())
        assert proposal.usage.cached_tokens == 0


async def test_more_candidates_than_its_queue_takes_are_too_many(
    fake: FakeVllm, backend: RemoteBackend
) -> None:
    fake.most_queued = len(CANDIDATES) - 1
    with pytest.raises(Overloaded):
        await backend.score(SCORING, patience())


async def test_how_busy_it_is_need_not_be_told(fake: FakeVllm, backend: RemoteBackend) -> None:
    fake.logs_stats = False
    assert await server_of(backend).load(patience()) is None


async def test_a_dead_engine_is_away(fake: FakeVllm, backend: RemoteBackend) -> None:
    fake.trouble = "dead"
    with pytest.raises(Unavailable):
        await backend.propose(PROPOSAL, patience())
    with pytest.raises(Unavailable, match="engine"):
        await server_of(backend).identify(patience())


async def test_a_prompt_that_it_finds_too_long_is_too_long(backend: RemoteBackend) -> None:
    context = tokenized(backend, CONTEXTS[0])
    longer = type(context)(context.context, context.ids[:1] * 1025)
    with pytest.raises(ContextTooLong, match=r"1025 tokens do not fit .* of 1024"):
        await server_of(backend).generate(longer, 1, Sampling(), patience())


@pytest.mark.parametrize("what", ["name", "files"])
async def test_another_model_in_its_place_is_refused(
    fake: FakeVllm, backend: RemoteBackend, what: str
) -> None:
    await fake.stop()
    if what == "name":
        fake.name = "another"
    else:
        fake.model.architecture = "another"
    await fake.start()
    with pytest.raises(Unavailable, match="the server is not what it was"):
        await backend.score(SCORING, patience())
