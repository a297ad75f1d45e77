"""Flags of llama-server that change its numbers are found out, or overruled."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_service.core.types import Candidate, Context, ProposeRequest, ScoreRequest
from specfuse.deadline import Deadline
from specfuse.errors import Misconfigured, Unavailable
from tests.support import tiny_models
from tests.support.gguf_models import write_gguf
from tests.support.http_between import Answer, between
from tests.support.llama_server import llama_server, needs_llama_server
from tests.support.remote_subjects import ARCHITECTURE, Subject

PATIENCE = 60.0
EXACT = 2e-5
SENTENCES = "The capital of France is Paris. The capital of Spain is Madrid. " * 3

pytestmark = needs_llama_server


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the tiny model, beside its GGUF file."""
    directory = tmp_path_factory.mktemp("models") / ARCHITECTURE
    tiny_models.save(ARCHITECTURE, directory)
    write_gguf(directory, _file(directory))
    return directory


def _file(model: Path) -> Path:
    return model.with_suffix(".gguf")


def soon() -> Deadline:
    return Deadline.after(PATIENCE)


@pytest.mark.parametrize("kind", ["ngram-simple", "draft-simple"])
async def test_guessed_tokens_are_not_taken_for_certain_ones(model: Path, kind: str) -> None:
    drafts = ("--model-draft", str(_file(model))) if kind.startswith("draft") else ()
    with (
        llama_server(_file(model), "--spec-type", kind, *drafts) as url,
        pytest.raises(Misconfigured, match=r"llama_cpp\.url: .*speculatively.*--spec-type"),
    ):
        async with Subject("llama_cpp", url, model).opened():
            pass


async def test_a_cache_that_is_moved_about_is_not_used(model: Path) -> None:
    with llama_server(_file(model), "--cache-reuse", "8", "--parallel", "1") as url:
        subject = Subject("llama_cpp", url, model)
        async with subject.opened() as backend:
            for prompt in (f"What goes before. {SENTENCES}", SENTENCES):
                context, candidate = Context(prompt), Candidate(" Rome", finished=True)
                (score,) = (await backend.score(ScoreRequest(context, (candidate,)), soon())).scores
                expected = subject.scored(backend, context, candidate)
                assert score.token_logprobs == pytest.approx(expected, abs=EXACT)


async def test_a_context_that_is_kept_is_found_in_one_of_several_slots(model: Path) -> None:
    with llama_server(_file(model), "--parallel", "4") as url:
        async with Subject("llama_cpp", url, model).opened() as backend:
            assert backend.model.capabilities.prefix_cache


async def test_what_a_second_server_at_the_same_address_says_does_not_count(model: Path) -> None:
    def renamed(answer: Answer) -> None:
        answer.say(answer.json() | {"model": "another"})

    with llama_server(_file(model), "--parallel", "1") as url:
        async with (
            between(url) as proxy,
            Subject("llama_cpp", proxy.url, model).opened() as backend,
        ):
            proxy.spared = frozenset({"/health", "/props", "/metrics"})
            proxy.meddle = renamed
            context = Context("Once upon a time")
            with pytest.raises(Unavailable, match="another model"):
                await backend.score(ScoreRequest(context, (Candidate(" a", True),)), soon())
            with pytest.raises(Unavailable, match="another model"):
                await backend.propose(ProposeRequest(context, 4), soon())
