"""What is particular to SGLang's server, over HTTP to a fake of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from model_service.backends.remote.backend import RemoteBackend
from model_service.core.types import ProposeRequest, Sampling, ScoreRequest
from specfuse.errors import ContextTooLong, Unavailable
from tests.support import tiny_models
from tests.support.fakes.served import ARCHITECTURE, faked
from tests.support.fakes.sglang import FakeSglang
from tests.support.served_model import (
    CANDIDATES,
    CONTEXTS,
    patience,
    server_of,
    tokenized,
)

PROPOSAL = ProposeRequest(CONTEXTS[0], 8)
SCORING = ScoreRequest(CONTEXTS[0], CANDIDATES)
WARM = ProposeRequest(CONTEXTS[0], 8, Sampling(temperature=1.5, seed=5))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tokenizer")
    tiny_models.tokenizer(ARCHITECTURE).save_pretrained(directory)
    return directory


@pytest.fixture
async def fake() -> AsyncIterator[FakeSglang]:
    async with FakeSglang() as fake:
        yield fake


@pytest.fixture
async def backend(fake: FakeSglang, tokenizer: Path) -> AsyncIterator[RemoteBackend]:
    async with faked(fake, tokenizer).backend() as backend:
        yield backend


async def test_it_describes_the_server(backend: RemoteBackend) -> None:
    model = backend.model
    assert (model.backend, model.context_window) == ("sglang", 1017)
    assert model.revision.endswith(", SGLang 0.5.23, weights default")
    assert model.capabilities.own_scores
    assert model.capabilities.prefix_cache


async def test_scoring_computes_no_context_twice(fake: FakeSglang, backend: RemoteBackend) -> None:
    tokens = len(tokenized(backend, CONTEXTS[2]).ids)
    request = ScoreRequest(CONTEXTS[2], CANDIDATES)
    await backend.score(request, patience())
    scores = await backend.score(request, patience())
    assert scores.usage.cached_tokens == tokens - 1
    assert fake.bodies("/generate")[-1]["logprob_start_len"] == tokens - 1


async def test_the_servers_own_defaults_do_not_count(
    fake: FakeSglang, backend: RemoteBackend
) -> None:
    plain = await backend.propose(PROPOSAL, patience())
    fake.preferred = {"temperature": 1.5, "top_k": 3, "top_p": 0.5, "max_new_tokens": 2}
    assert (await backend.propose(PROPOSAL, patience())).text == plain.text


@pytest.mark.parametrize("original", [True, False])
async def test_tempered_numbers_are_no_scores(
    fake: FakeSglang, tokenizer: Path, *, original: bool
) -> None:
    fake.original_logprobs = original
    async with faked(fake, tokenizer).backend() as backend:
        assert (await backend.propose(WARM, patience())).own_score is None or original
        whole = await server_of(backend).generate(
            tokenized(backend, WARM.context), 8, WARM.sampling, patience()
        )
        assert whole.logprobs is not None
        assert backend._abilities.exact_when_sampling is original


async def test_how_busy_it_is_need_not_be_told(fake: FakeSglang, backend: RemoteBackend) -> None:
    fake.metrics = False
    assert await server_of(backend).load(patience()) is None


async def test_an_input_that_it_finds_too_long_is_too_long(backend: RemoteBackend) -> None:
    context = tokenized(backend, CONTEXTS[0])
    longer = type(context)(context.context, context.ids[:1] * 1018)
    with pytest.raises(ContextTooLong, match=r"1018 tokens do not fit .* of 1018"):
        await server_of(backend).generate(longer, 1, Sampling(), patience())


async def test_other_weights_in_the_same_server_are_refused(
    fake: FakeSglang, backend: RemoteBackend
) -> None:
    await fake.stop()
    fake.weight_version = "step-2"
    await fake.start()
    with pytest.raises(Unavailable, match="the server is not what it was"):
        await backend.score(SCORING, patience())
