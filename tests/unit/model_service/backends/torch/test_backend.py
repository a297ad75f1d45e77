"""The torch backend's answers: those of the model itself, whatever is cached and whatever runs."""

from __future__ import annotations

import asyncio

import pytest
import torch

from model_service.backends.torch import backend as torch_backend
from model_service.core.types import (
    Candidate,
    Context,
    Message,
    ProposeRequest,
    Role,
    Sampling,
    ScoreRequest,
    SegmentFinish,
)
from specfuse.deadline import Deadline
from specfuse.errors import (
    ContextTooLong,
    DeadlineExceeded,
    InvalidArgument,
    ModelFailure,
    Overloaded,
    ShuttingDown,
)
from tests.support import tiny_models
from tests.support.observers import RecordingObserver
from tests.support.torch_serving import (
    assert_plain,
    assert_same,
    generated,
    plainly_scored,
    serving,
)

NEVER = Deadline.never()
ALL = tiny_models.PACKED + tiny_models.COPIED
KEEPING = tuple(name for name in ALL if name not in ("qwen2", "mistral"))
"""Whose greedy drafts are now and then their text's own encoding."""
QUESTION = Context((Message(Role.USER, "What is the capital of France, and what is 42 + 17?"),))
CANDIDATES = (
    Candidate(" The capital of France", finished=False),
    Candidate(" Paris", finished=True),
    Candidate("", finished=True),
    Candidate(" 42 + 17 = 59; isn't that so?\nYes", finished=False),
)


@pytest.fixture(params=["weights by inputs", "weights in blocks"])
def layout(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny models are too small for blocks."""
    if request.param == "weights in blocks":
        monkeypatch.setattr(torch_backend, "LEAST_BLOCKED_BYTES", 0)


@pytest.mark.usefixtures("layout")
@pytest.mark.parametrize("architecture", ALL)
async def test_greedy_proposals_are_what_generate_says(architecture: str) -> None:
    async with serving(architecture) as backend:
        context = QUESTION
        for _ in range(4):
            proposal = await backend.propose(ProposeRequest(context, 8), NEVER)
            assert proposal.text == generated(backend, architecture, context, 8)
            context = Context(context.prompt, (*context.committed, proposal.text or " and"))


@pytest.mark.usefixtures("layout")
@pytest.mark.parametrize("architecture", ALL)
async def test_scores_are_those_of_plain_forward_passes(architecture: str) -> None:
    async with serving(architecture) as backend:
        committed: tuple[str, ...] = ()
        for text in ("", " The capital of France", " Paris. 42"):
            committed += (text,) if text else ()
            context = Context(QUESTION.prompt, committed)
            for _ in range(2):
                scores = await backend.score(ScoreRequest(context, CANDIDATES), NEVER)
                for found, candidate in zip(scores.scores, CANDIDATES, strict=True):
                    assert_plain(found, plainly_scored(backend, architecture, context, candidate))


@pytest.mark.parametrize("architecture", KEEPING)
async def test_a_greedy_draft_regrets_nothing_and_scoring_has_the_same_evidence(
    architecture: str,
) -> None:
    async with serving(architecture) as backend:
        established = 0
        for number in range(9):
            context = Context(f"Question {number}, please:", (" The answer",) * (number % 3))
            proposal = await backend.propose(ProposeRequest(context, 1 + number % 4), NEVER)
            own = proposal.own_score
            if own is None:
                continue
            established += 1
            assert own.evidence is not None
            assert (own.evidence.regret_sum, own.evidence.regret_max) == (0.0, 0.0)
            candidate = Candidate(proposal.text, proposal.finish is SegmentFinish.END)
            scores = await backend.score(ScoreRequest(context, (candidate,)), NEVER)
            scored = scores.scores[0].evidence
            assert scored is not None
            assert scored.regret_sum == pytest.approx(0.0, abs=1e-4)
            assert own.evidence.weakest_logprob == pytest.approx(scored.weakest_logprob, abs=1e-4)
        assert established


@pytest.mark.parametrize("architecture", ALL)
async def test_own_score_is_what_scoring_says(architecture: str) -> None:
    async with serving(architecture) as backend:
        established = 0
        for number in range(12):
            context = Context(f"Question {number}, please:", (" The answer",) * (number % 3))
            sampling = Sampling(temperature=1.0, seed=number)
            request = ProposeRequest(context, 1 + number % 3, sampling)
            proposal = await backend.propose(request, NEVER)
            candidate = Candidate(proposal.text, proposal.finish is SegmentFinish.END)
            if proposal.own_score:
                established += 1
                assert_plain(
                    proposal.own_score, plainly_scored(backend, architecture, context, candidate)
                )
        assert established


@pytest.mark.parametrize("architecture", ["llama", "mistral", "gemma2"])
async def test_a_context_is_computed_once(architecture: str) -> None:
    async with serving(architecture) as backend:
        first = await backend.propose(ProposeRequest(QUESTION, 6), NEVER)
        assert first.usage.cached_tokens == 0
        scores = await backend.score(ScoreRequest(QUESTION, CANDIDATES), NEVER)
        assert scores.usage.cached_tokens == scores.usage.context_tokens
        grown = Context(QUESTION.prompt, (CANDIDATES[0].text,))
        following = await backend.propose(ProposeRequest(grown, 6), NEVER)
        assert following.usage.cached_tokens == following.usage.context_tokens


async def test_taking_up_a_scored_candidate_needs_no_forward_pass() -> None:
    observer = RecordingObserver()
    async with serving("llama", observer=observer) as backend:
        await backend.score(ScoreRequest(QUESTION, CANDIDATES), NEVER)
        grown = Context(QUESTION.prompt, (CANDIDATES[0].text,))
        observer.forwards.clear()
        await backend.propose(ProposeRequest(grown, 5), NEVER)
        assert observer.forwards == [("draft", 1)] * 4


@pytest.mark.parametrize("architecture", ALL)
async def test_concurrent_calls_get_the_answers_they_get_alone(architecture: str) -> None:
    contexts = [Context(f"Question {i}: {'why ' * (3 * i)}") for i in range(6)]
    sampling = Sampling(temperature=0.8, top_p=0.9, top_k=40, seed=11)
    requests = [ProposeRequest(context, 7, sampling) for context in contexts]
    async with serving(architecture) as backend:
        alone = [(await backend.propose(request, NEVER)).text for request in requests]
        alone_scores = [
            (await backend.score(ScoreRequest(c, CANDIDATES), NEVER)).scores for c in contexts
        ]
    async with serving(architecture) as backend:
        proposals, scores = await asyncio.gather(
            asyncio.gather(*(backend.propose(request, NEVER) for request in requests)),
            asyncio.gather(*(backend.score(ScoreRequest(c, CANDIDATES), NEVER) for c in contexts)),
        )
    assert [proposal.text for proposal in proposals] == alone
    for found, expected in zip(scores, alone_scores, strict=True):
        for one, other in zip(found.scores, expected, strict=True):
            assert_same(one, other)


async def test_a_seed_decides_what_is_drawn() -> None:
    async with serving("llama") as backend:

        async def drawn(seed: int) -> str:
            request = ProposeRequest(QUESTION, 12, Sampling(temperature=1.5, seed=seed))
            return (await backend.propose(request, NEVER)).text

        assert await drawn(1) == await drawn(1)
        assert len({await drawn(seed) for seed in range(5)}) > 1


async def test_stop_string_ends_the_segment_and_is_kept() -> None:
    async with serving("llama") as backend:
        whole = (await backend.propose(ProposeRequest(QUESTION, 12), NEVER)).text
        stop = whole[2:4]
        proposal = await backend.propose(ProposeRequest(QUESTION, 12, stop=(stop,)), NEVER)
        assert proposal.finish is SegmentFinish.STOP
        assert proposal.text == whole[: whole.index(stop) + len(stop)]


async def test_a_long_candidate_is_scored_like_a_short_one() -> None:
    long = Candidate(" the capital of France is Paris," * 9, finished=True)
    async with serving("llama") as backend:
        context = Context("Go on:")
        scores = await backend.score(ScoreRequest(context, (long, CANDIDATES[0])), NEVER)
        for found, candidate in zip(scores.scores, (long, CANDIDATES[0]), strict=True):
            assert_plain(found, plainly_scored(backend, "llama", context, candidate))


async def test_many_candidates_are_scored() -> None:
    many = tuple(Candidate(f" number {i}", finished=False) for i in range(200))
    async with serving("llama") as backend:
        scores = await backend.score(ScoreRequest(QUESTION, many), NEVER)
        assert len(scores.scores) == 200
        assert_plain(scores.scores[-1], plainly_scored(backend, "llama", QUESTION, many[-1]))


async def test_context_that_does_not_fit_is_refused() -> None:
    async with serving("llama") as backend:
        long = Context("word " * 400)
        with pytest.raises(ContextTooLong, match="window of 256"):
            await backend.propose(ProposeRequest(long, 8), NEVER)
        with pytest.raises(ContextTooLong):
            await backend.score(ScoreRequest(long, CANDIDATES), NEVER)


async def test_what_is_far_too_long_is_refused_before_it_is_counted() -> None:
    far_too_long = "word " * 200_000
    contexts = (
        Context(far_too_long),
        Context((Message(Role.USER, far_too_long),)),
        Context("Go on:", ("So", far_too_long)),
        Context("Go on:", (" and so on",) * 4096),
    )
    async with serving("llama") as backend:
        for context in contexts:
            with pytest.raises(ContextTooLong, match=r"at least \d+ tokens .* window of 256"):
                await backend.propose(ProposeRequest(context, 8), NEVER)


async def test_a_candidate_that_does_not_fit_is_refused_before_the_next_is_looked_at() -> None:
    candidates = (Candidate(" word" * 300, finished=False), Candidate("", finished=False))
    async with serving("llama") as backend:
        with pytest.raises(ContextTooLong):
            await backend.score(ScoreRequest(QUESTION, candidates), NEVER)


@pytest.mark.parametrize(
    ("candidates", "field"),
    [
        ((), "candidates"),
        ((Candidate(" fine", finished=False), Candidate("", finished=False)), r"candidates\[1\]"),
    ],
)
async def test_candidates_that_cannot_be_scored_are_refused(
    candidates: tuple[Candidate, ...], field: str
) -> None:
    async with serving("llama") as backend:
        with pytest.raises(InvalidArgument, match=field):
            await backend.score(ScoreRequest(QUESTION, candidates), NEVER)


async def test_candidate_that_encodes_to_nothing_is_refused() -> None:
    async with serving("gpt2") as backend:  # its tokenizer drops whitespace
        with pytest.raises(InvalidArgument, match="encodes to no tokens"):
            await backend.score(ScoreRequest(QUESTION, (Candidate(" ", finished=True),)), NEVER)


async def test_passed_deadline_ends_the_call_and_no_other() -> None:
    async with serving("llama") as backend:
        other = asyncio.create_task(backend.propose(ProposeRequest(QUESTION, 30), NEVER))
        with pytest.raises(DeadlineExceeded):
            await backend.propose(ProposeRequest(QUESTION, 30), Deadline.after(0))
        assert (await other).text == generated(backend, "llama", QUESTION, 30)


async def test_cancelling_stops_the_work_between_tokens() -> None:
    observer = RecordingObserver()
    started, loop = asyncio.Event(), asyncio.get_running_loop()
    observer.queued = lambda _: loop.call_soon_threadsafe(started.set)
    async with serving("llama", observer=observer) as backend:
        task = asyncio.create_task(backend.propose(ProposeRequest(QUESTION, 150), NEVER))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await backend.propose(ProposeRequest(QUESTION, 1), NEVER)
        assert len(observer.forwards) < 100


class _Broken(torch.nn.Module):
    """A final layer that fails for as long as it is told to."""

    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.failure: Exception | None = None
        self.poisonous = False

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        if self.failure:
            raise self.failure
        output = self.layer(hidden)
        return output * torch.nan if self.poisonous else output


@pytest.mark.parametrize("architecture", ["llama", "hybrid"])
@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (None, ModelFailure),
        (RuntimeError("shapes do not match"), ModelFailure),
        (torch.OutOfMemoryError("CUDA out of memory"), Overloaded),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 8 TB"), Overloaded),
    ],
)
async def test_failing_model_fails_the_call_and_recovers(
    architecture: str, failure: Exception | None, expected: type[Exception]
) -> None:
    async with serving(architecture) as backend:
        model = backend._scheduler._engine._model
        model.lm_head = broken = _Broken(model.lm_head)
        broken.failure, broken.poisonous = failure, failure is None
        with pytest.raises(expected):
            await backend.propose(ProposeRequest(QUESTION, 8), NEVER)
        with pytest.raises(expected):
            await backend.score(ScoreRequest(QUESTION, CANDIDATES), NEVER)
        broken.failure, broken.poisonous = None, False
        proposal = await backend.propose(ProposeRequest(QUESTION, 8), NEVER)
        assert proposal.text == generated(backend, architecture, QUESTION, 8)


async def test_context_larger_than_the_cache_is_refused_and_others_served(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving("llama", kv_cache_bytes=60_000) as backend:
        window = backend.model.context_window
        assert f"torch.kv_cache_bytes holds contexts of {window} tokens" in caplog.text
        with pytest.raises(ContextTooLong, match=f"window of {window}"):
            await backend.propose(ProposeRequest(Context("word " * 60), 8), NEVER)
        assert (await backend.propose(ProposeRequest(Context("Hello"), 4), NEVER)).text


async def test_a_context_as_long_as_the_cache_allows_is_served_alone() -> None:
    async with serving("llama", kv_cache_bytes=60_000) as backend:
        window = backend.model.context_window
        for asked in range(3):
            text = f"{asked}" * 3 * window
            length = len(backend._encoder.tokenizer.context_ids(Context(text)))
            while length + 8 > window:
                text = text[:-1]
                length = len(backend._encoder.tokenizer.context_ids(Context(text)))
            assert length + 8 == window
            assert (await backend.propose(ProposeRequest(Context(text), 8), NEVER)).token_count
            few = (Candidate(" no", finished=False), Candidate(" yes", finished=False))
            scored = await backend.score(ScoreRequest(Context(text), few), NEVER)
            assert len(scored.scores) == len(few)


async def test_calls_after_closing_are_refused() -> None:
    async with serving("llama") as backend:
        pass
    await backend.close()
    with pytest.raises(ShuttingDown):
        await backend.propose(ProposeRequest(QUESTION, 8), NEVER)


async def test_closing_fails_the_calls_in_the_scheduler() -> None:
    async with serving("llama") as backend:
        tasks = [
            asyncio.create_task(backend.propose(ProposeRequest(QUESTION, 150), NEVER))
            for _ in range(20)
        ]
        await asyncio.sleep(0.02)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert any(isinstance(result, ShuttingDown) for result in results)
