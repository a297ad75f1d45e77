"""Backends whose server takes token ids and scores prompts, over HTTP to fakes of such servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from model_service.backends.remote.backend import RemoteBackend
from model_service.core.types import ProposeRequest, ScoreRequest
from specfuse.deadline import Deadline
from specfuse.errors import (
    DeadlineExceeded,
    Misconfigured,
    ModelFailure,
    Overloaded,
    SpecFuseError,
    Unavailable,
)
from tests.support import tiny_models
from tests.support.fakes.served import ARCHITECTURE, SECTIONS, faked
from tests.support.fakes.server import PATIENCE_SECONDS, FakeServer
from tests.support.served_model import (
    CANDIDATES,
    CHECKS,
    CONTEXTS,
    Check,
    ServedModel,
    named,
    patience,
    server_of,
)

KEY = "a-key-of-ours"
PROPOSAL = ProposeRequest(CONTEXTS[0], 8)
SCORING = ScoreRequest(CONTEXTS[0], CANDIDATES)
FAILURES: list[tuple[str, type[SpecFuseError]]] = [
    ("nan", ModelFailure),
    ("fewer", ModelFailure),
    ("garbage", ModelFailure),
    ("aborted", Unavailable),
    ("dies", Unavailable),
    ("broken", Unavailable),
    ("overloaded", Overloaded),
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tokenizer")
    tiny_models.tokenizer(ARCHITECTURE).save_pretrained(directory)
    return directory


@pytest.fixture(params=SECTIONS, ids=lambda kind: kind.__name__)
async def fake(request: pytest.FixtureRequest) -> AsyncIterator[FakeServer]:
    async with request.param() as fake:
        yield fake


@pytest.fixture
def served(fake: FakeServer, tokenizer: Path) -> ServedModel:
    return faked(fake, tokenizer)


@pytest.fixture
async def backend(served: ServedModel) -> AsyncIterator[RemoteBackend]:
    async with served.backend() as backend:
        yield backend


@pytest.mark.parametrize("check", CHECKS, ids=named)
async def test_it_keeps_the_contract(check: Check, served: ServedModel) -> None:
    await check(served)


@pytest.mark.parametrize(("trouble", "error"), FAILURES)
async def test_what_goes_wrong_is_said_and_passes(
    fake: FakeServer, backend: RemoteBackend, trouble: str, error: type[SpecFuseError]
) -> None:
    fake.trouble = trouble
    with pytest.raises(error):
        await backend.propose(PROPOSAL, patience())
    with pytest.raises(error):
        await backend.score(SCORING, patience())
    fake.trouble = None
    await backend.score(SCORING, patience())


async def test_scores_of_other_tokens_are_none(fake: FakeServer, backend: RemoteBackend) -> None:
    fake.trouble = "others"
    with pytest.raises(ModelFailure):
        await backend.score(SCORING, patience())


async def test_a_draft_without_numbers_has_no_score(
    fake: FakeServer, backend: RemoteBackend
) -> None:
    scored = await backend.propose(PROPOSAL, patience())
    fake.trouble = "missing"
    proposal = await backend.propose(PROPOSAL, patience())
    assert (proposal.text, proposal.own_score) == (scored.text, None)
    with pytest.raises(ModelFailure, match="logprobs"):
        await backend.score(SCORING, patience())


async def test_all_candidates_are_scored_by_one_request(
    fake: FakeServer, backend: RemoteBackend
) -> None:
    (path,) = fake.work
    before = len(fake.bodies(path))
    await backend.score(SCORING, patience())
    assert len(fake.bodies(path)) == before + 1


async def test_a_deadline_ends_the_servers_work(fake: FakeServer, backend: RemoteBackend) -> None:
    fake.trouble = "hang"
    with pytest.raises(DeadlineExceeded):
        await backend.propose(PROPOSAL, Deadline.after(0.2))
    await fake.until_working(0)


@pytest.mark.parametrize("request_", [PROPOSAL, SCORING], ids=["propose", "score"])
async def test_cancelling_a_call_ends_the_servers_work(
    fake: FakeServer, backend: RemoteBackend, request_: ProposeRequest | ScoreRequest
) -> None:
    fake.trouble = "hang"
    call = backend.propose if isinstance(request_, ProposeRequest) else backend.score
    task = asyncio.create_task(call(request_, patience()))  # type: ignore[arg-type]
    await fake.until_working(1)
    task.cancel()
    await fake.until_working(0)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_server_that_dies_in_mid_call_may_come_back(
    fake: FakeServer, served: ServedModel, backend: RemoteBackend
) -> None:
    fake.trouble = "hang"
    task = asyncio.create_task(backend.score(SCORING, patience()))
    await fake.until_working(1)
    await fake.stop()
    with pytest.raises(Unavailable):
        await task
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await served.readiness.get() is False
        fake.trouble = None
        await fake.start()
        assert await served.readiness.get() is True
    await backend.score(SCORING, patience())


async def test_it_says_how_busy_it_is(fake: FakeServer, backend: RemoteBackend) -> None:
    fake.trouble = "hang"
    task = asyncio.create_task(backend.score(SCORING, patience()))
    await fake.until_working(1)
    load = await server_of(backend).load(patience())
    assert load is not None
    assert (load.running, load.waiting) == (1, 0)
    task.cancel()


async def test_it_takes_a_key(fake: FakeServer, tokenizer: Path, tmp_path: Path) -> None:
    fake.key = KEY
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n", encoding="ascii")
    async with faked(fake, tokenizer, api_key_file=file).backend() as backend:
        await backend.score(SCORING, patience())


async def test_a_key_that_is_refused_is_a_wrong_setting(fake: FakeServer, tokenizer: Path) -> None:
    fake.key = KEY
    with pytest.raises(Misconfigured, match=r"\.api_key_file: the server refuses our key"):
        async with faked(fake, tokenizer).backend():
            pass


async def test_the_tokenizer_must_be_the_models(fake: FakeServer, tmp_path: Path) -> None:
    tiny_models.tokenizer("qwen2").save_pretrained(tmp_path)
    with pytest.raises(Misconfigured, match=r"\.tokenizer: it is not the one of the model"):
        async with faked(fake, tmp_path).backend():
            pass


async def test_a_server_must_be_there(fake: FakeServer, tokenizer: Path) -> None:
    await fake.stop()
    with pytest.raises(Misconfigured, match=r"was not ready within 0\.1 s .*cannot be reached"):
        async with faked(fake, tokenizer, start_seconds=0.1).backend():
            pass


async def test_it_must_be_of_the_kind_that_the_settings_say(
    fake: FakeServer, tokenizer: Path
) -> None:
    (other,) = (kind for kind in SECTIONS if not isinstance(fake, kind))
    async with other() as another:
        with pytest.raises(Misconfigured, match="is it of the kind that `backend` says"):
            async with faked(fake, tokenizer, url=another.url).backend():
                pass
