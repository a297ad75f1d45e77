"""A mesh of a real language model, in two quantisations and asked in two ways.

    make servers
    SPECFUSE_GGUF=gemma-3-270m-q4_k_m.gguf python -m pytest -rP tests/servers/test_real_model.py

The file's weights are members as transformers reads them, rounded once more, and as they are on a
llama-server. `-rP` shows what was asked and what it took. Other models may agree on other prompts.
"""

from __future__ import annotations

import itertools
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest

from model_service.backends.llama_cpp.settings import LlamaCppSection
from model_service.backends.registry import open_backend
from model_service.core.types import Candidate, Context, Score, ScoreRequest
from model_service.ports import BackendHost
from specfuse.client import Answer, Client, Prompt, RawPrompt
from specfuse.rpc.channels import open_channel
from specfuse.v1 import model_service_pb2 as pb
from specfuse.v1.model_service_pb2_grpc import ModelServiceStub
from tests.support.command import RunningMesh
from tests.support.llama_server import llama_server, needs_llama_server
from tests.support.observers import RecordingObserver
from tests.support.real_model import (
    GROUPS,
    MEMBERS,
    VARIANTS,
    WAYS,
    ensemble,
    gguf_file,
    needs_gguf,
    real_mesh,
    write_unpacked,
)
from tests.support.served_model import PATIENCE_SECONDS, patience

PROMPTS = (
    "def fibonacci(n):\n",
    "Water boils at a temperature of",
    "Here is a list of fruits:\n1.",
    "1, 2, 3, 4, 5,",
    "The quick brown fox",
    "The recipe needs flour,",
    "The opposite of hot is",
    "English: Good morning.\nFrench:",
    "The capital of France is",
    "Столица России —",
    "日本の首都は",
    "🙂 means",
)
"""The first six are answered alike by all members, the others by two of them or by none."""

QUESTIONS = (
    "What is the largest planet of the solar system?",
    "What is the capital of Italy?",
    "How many days are in a week?",
    "What colour is the sky?",
)
SOME = 3
TOKENS = 24
QUANTISED = 0.75
"""How far arithmetic on quantised numbers may move a log-probability: about twice what it did."""

EXACT = 0.01
"""And how far otherwise: llama.cpp looks Gemma's activation up in a table of half precision."""

TEXTS = (
    ("The capital of France is", (" Paris, of course.", " a  double space", "\n\nLyon")),
    ("To be, or not to be,", (" that is the question", "<start_of_turn>user", " ꙮ🙂")),
    ("日本の首都は", ("東京です。", " Москва", "\t\x07")),
)

pytestmark = [
    pytest.mark.servers,
    pytest.mark.timeout(3600),
    needs_gguf,
    needs_llama_server,
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Of some 3 GB, which pytest would keep for three runs."""
    place = tmp_path_factory.mktemp("real")
    yield place
    shutil.rmtree(place)


@pytest.fixture(scope="module")
def mesh(place: Path) -> Iterator[RunningMesh]:
    with real_mesh(gguf_file(), place) as mesh:
        yield mesh


Answers = Mapping[str, Answer]
"""What each ensemble answers to one prompt."""

RAW = (
    *(ensemble((member,)) for member in MEMBERS),
    *(ensemble(group, variant) for group in GROUPS for variant in ("default", "segments")),
    ensemble(MEMBERS, "no-exit"),
)
IN_TWO_WAYS = (
    *(ensemble((way,)) for way in WAYS),
    *(ensemble(WAYS, variant) for variant in VARIANTS),
)


@pytest.fixture(scope="module")
def raw(mesh: RunningMesh) -> Callable[[str], Answers]:
    """What is answered to a prompt as it is, which no chat template touches."""
    return cache(lambda prompt: answered(mesh, RAW, RawPrompt(prompt)))


@pytest.fixture(scope="module")
def in_two_ways(mesh: RunningMesh) -> Callable[[str], Answers]:
    """What is answered in a line to a question, which each member puts in its own template."""
    return cache(lambda question: answered(mesh, IN_TWO_WAYS, question, stop=("\n",)))


def answered(
    mesh: RunningMesh, names: Sequence[str], prompt: Prompt, **options: Sequence[str]
) -> Answers:
    """All ensembles at once, as passes through a model cost little more for several callers."""

    def answer(name: str) -> Answer:
        return client.generate(prompt, ensemble=name, max_tokens=TOKENS, **options)

    with Client(mesh.address) as client, ThreadPoolExecutor(len(names)) as callers:
        answers = dict(zip(names, callers.map(answer, names), strict=True))
    for name, one in answers.items():
        end = one.finished
        cost = f"{end.passes} passes, {end.calls_made} calls, {end.total_seconds:.1f} s"
        sys.stdout.write(f"{prompt!r} | {name} | {one.text!r} | {cost}\n")
    return answers


def agreed(answers: Answers, group: Sequence[str]) -> str | None:
    """What all members write alone, if it is the same."""
    alone = {answers[ensemble((member,))].text for member in group}
    return alone.pop() if len(alone) == 1 else None


@pytest.mark.parametrize("prompt", PROMPTS)
def test_what_all_members_write_is_the_answer(raw: Callable[[str], Answers], prompt: str) -> None:
    answers = raw(prompt)
    assert not any(answer.degraded for answer in answers.values())
    for group in GROUPS:
        expected = agreed(answers, group)
        for variant in ("default", "segments"):
            fused = answers[ensemble(group, variant)].text
            assert fused.strip()
            assert expected in (None, fused), ensemble(group, variant)


def test_members_agree_on_some_prompts_and_not_on_others(raw: Callable[[str], Answers]) -> None:
    for group in GROUPS:
        count = sum(agreed(raw(prompt), group) is not None for prompt in PROMPTS)
        assert SOME <= count <= len(PROMPTS) - SOME, group


@pytest.mark.parametrize("question", QUESTIONS)
def test_one_model_asked_in_two_ways_answers_as_both_where_they_agree(
    in_two_ways: Callable[[str], Answers], question: str
) -> None:
    """The members share a server, and differ in the template of their tokenizers' directories."""
    answers = in_two_ways(question)
    assert not any(answer.degraded for answer in answers.values())
    for variant in VARIANTS:
        assert agreed(answers, WAYS) in (None, answers[ensemble(WAYS, variant)].text), variant


def test_ways_of_asking_agree_on_some_questions_only(
    in_two_ways: Callable[[str], Answers],
) -> None:
    count = sum(agreed(in_two_ways(question), WAYS) is not None for question in QUESTIONS)
    assert 0 < count < len(QUESTIONS)


async def test_members_on_torch_and_on_a_server_score_alike(mesh: RunningMesh) -> None:
    """The server multiplies by quantised weights in integers, what transformers unpacks."""
    torch_scores, server_scores = [
        await _scored_by_member(mesh, name) for name in ("original", "q4")
    ]
    apart = _apart(torch_scores, server_scores)
    sys.stdout.write(f"quantised arithmetic: {apart:.3g}\n")
    assert apart <= QUANTISED


async def test_the_same_weights_unpacked_score_the_same(mesh: RunningMesh, place: Path) -> None:
    """So whatever else differs between the two members is the quantised arithmetic."""
    write_unpacked(gguf_file(), place / "unpacked.gguf")
    with llama_server(place / "unpacked.gguf", "--ctx-size", "2048", "--parallel", "2") as url:
        section = LlamaCppSection(url=url, tokenizer=str(place / "original"))
        backend = await open_backend(
            section.kind, section, BackendHost("unpacked", RecordingObserver())
        )
        try:
            scores = [
                (await backend.score(_request(context, candidates), patience())).scores
                for context, candidates in TEXTS
            ]
        finally:
            await backend.close()
    expected = await _scored_by_member(mesh, "original")
    apart = _apart(expected, [[*each] for each in scores])
    sys.stdout.write(f"single precision: {apart:.3g}\n")
    assert apart <= EXACT


def _request(context: str, candidates: Sequence[str]) -> ScoreRequest:
    return ScoreRequest(
        Context(context), tuple(Candidate(text, finished=False) for text in candidates)
    )


async def _scored_by_member(mesh: RunningMesh, name: str) -> list[list[pb.Score]]:
    async with open_channel(mesh.models[name].address) as channel:
        stub = ModelServiceStub(channel)
        requests = [
            pb.ScoreSegmentsRequest(
                context=pb.Context(raw_prompt=context),
                candidates=[pb.Candidate(text=text) for text in candidates],
                include_token_logprobs=True,
            )
            for context, candidates in TEXTS
        ]
        responses = [await stub.ScoreSegments(one, timeout=PATIENCE_SECONDS) for one in requests]
    return [[*response.scores] for response in responses]


def _apart(ones: Sequence[Sequence[Score | pb.Score]], others: Sequence[Sequence[Score]]) -> float:
    """The most that any token's log-probability differs. Both count the same tokens."""
    pairs = [
        pair
        for one, other in zip(itertools.chain(*ones), itertools.chain(*others), strict=True)
        for pair in zip(one.token_logprobs, other.token_logprobs, strict=True)
    ]
    assert pairs
    return max(abs(one - other) for one, other in pairs)
