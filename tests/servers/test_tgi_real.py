"""The contract of the tgi backend, on a live text-generation-inference and on the made-up one.

    TGI_URL=http://gpu-7:8080 TGI_MODEL=/models/qwen python -m pytest tests/servers/test_tgi_real.py

TGI_MODEL is the directory of the served model, or its id on the hub; only its tokenizer is read.
Nobody else should use the server meanwhile. Nothing here knows what its model thinks: that numbers
are the model's own is tested with the made-up server (`tests/integration/test_tgi.py`).
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from model_service.backends.remote.backend import RemoteBackend
from model_service.core.types import (
    Candidate,
    Context,
    Message,
    Proposal,
    ProposeRequest,
    Role,
    Sampling,
    Score,
    ScoreRequest,
    SegmentFinish,
)
from specfuse.deadline import Deadline
from specfuse.errors import ContextTooLong, DeadlineExceeded, InvalidArgument
from tests.support.fakes.tgi import FakeTgi
from tests.support.tgi_backend import opened, tokenizer_of

SAME = 0.1
"""Half precision differs by less for the same tokens in other batches, if they are probable."""

CALL_SECONDS = 60.0
CONTEXTS = (
    Context("The capital of France is"),
    Context("One, two, three, four,", (" five", ", six")),
    Context("def area(width, height):\n    return"),
    *(Context(f"Question {number}: how much is {number} plus 1? Answer:") for number in range(12)),
)
CANDIDATES = (
    Candidate(" Paris", finished=False),
    Candidate(" Paris, of course, and not Lyon or any other town", finished=True),
    Candidate(" a", finished=True),
    Candidate("", finished=True),
)


@pytest.fixture(params=["made-up", "live"])
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RemoteBackend]:
    if request.param == "made-up":
        async with FakeTgi() as fake, opened(fake.url, tokenizer_of("llama", tmp_path)) as backend:
            yield backend
        return
    url, model = os.environ.get("TGI_URL"), os.environ.get("TGI_MODEL")
    if not url or not model:
        pytest.skip("TGI_URL and TGI_MODEL name no live text-generation-inference and its model")
    async with opened(url, model, start_seconds=60.0) as backend:
        yield backend


def soon() -> Deadline:
    return Deadline.after(CALL_SECONDS)


async def proposed(backend: RemoteBackend, context: Context, tokens: int = 8) -> Proposal:
    return await backend.propose(ProposeRequest(context, tokens), soon())


async def scored(backend: RemoteBackend, context: Context, *candidates: Candidate) -> list[Score]:
    return [*(await backend.score(ScoreRequest(context, candidates), soon())).scores]


def close(one: Score, other: Score) -> bool:
    """Whether two scores are of the same tokens."""
    pairs = zip(one.token_logprobs, other.token_logprobs, strict=False)
    apart = [abs(a - b) for a, b in pairs]
    return one.token_count == other.token_count and sum(apart) <= SAME * len(apart)


async def test_a_longer_proposal_begins_with_the_shorter(backend: RemoteBackend) -> None:
    shorter = [(await proposed(backend, context, tokens=4)).text for context in CONTEXTS]
    longer = [(await proposed(backend, context, tokens=12)).text for context in CONTEXTS]
    assert all(long.startswith(short) for long, short in zip(longer, shorter, strict=True))
    assert longer != shorter


async def test_own_scores_are_what_scoring_says(backend: RemoteBackend) -> None:
    assert backend.model.capabilities.own_scores
    compared = 0
    for context in CONTEXTS:
        proposal = await proposed(backend, context, tokens=2)
        if proposal.own_score is None:
            continue
        candidate = Candidate(proposal.text, proposal.finish is SegmentFinish.END)
        assert close(proposal.own_score, (await scored(backend, context, candidate))[0])
        compared += 1
    assert compared


async def test_the_greedy_choice_is_the_most_probable(backend: RemoteBackend) -> None:
    """Of the first tokens, of which the greedy one is one."""
    compared = 0
    for context in CONTEXTS:
        proposal = await proposed(backend, context, tokens=1)
        if proposal.own_score is None or proposal.own_score.token_count != 1:
            continue
        others = await scored(backend, context, *CANDIDATES)
        best = max(other.token_logprobs[0] for other in others)
        assert proposal.own_score.logprob_sum >= best - SAME
        compared += 1
    assert compared


async def test_scores_of_parts_add_up(backend: RemoteBackend) -> None:
    context, rest = CONTEXTS[0], " and Rome"
    (whole,) = await scored(backend, context, Candidate(f" Paris{rest}", finished=True))
    (first,) = await scored(backend, context, Candidate(" Paris", finished=False))
    after = Context(context.prompt, (" Paris",))
    (second,) = await scored(backend, after, Candidate(rest, finished=True))
    assert whole.token_count == first.token_count + second.token_count
    assert whole.logprob_sum == pytest.approx(
        first.logprob_sum + second.logprob_sum, abs=SAME * whole.token_count
    )


async def test_scores_are_probabilities_with_counts(backend: RemoteBackend) -> None:
    scores = await scored(backend, CONTEXTS[0], *CANDIDATES)
    for score, candidate in zip(scores, CANDIDATES, strict=True):
        assert score.byte_count == len(candidate.text.encode())
        assert 0.0 <= score.probability_mean <= 1.0
        assert all(number <= 0.0 and math.isfinite(number) for number in score.token_logprobs)
    assert scores[3].token_count == 1
    (unfinished,) = await scored(backend, CONTEXTS[0], Candidate(" a", finished=False))
    assert scores[2].token_count == unfinished.token_count + 1


async def test_nothing_sways_a_score(backend: RemoteBackend) -> None:
    """Neither the candidates beside it, nor other calls."""
    alone = [(await scored(backend, CONTEXTS[0], candidate))[0] for candidate in CANDIDATES]
    crowd = [scored(backend, context, *CANDIDATES) for context in CONTEXTS[:5]]
    drafts = [proposed(backend, context) for context in CONTEXTS[:5]]
    beside, *_ = await asyncio.gather(*crowd, *drafts)
    assert all(map(close, beside, alone))


async def test_a_conversation_is_rendered_or_refused(backend: RemoteBackend) -> None:
    context = Context((Message(Role.USER, "What is the capital of France?"),), ("It is",))
    try:
        (score,) = await scored(backend, context, Candidate(" Paris.", finished=True))
    except InvalidArgument as refused:
        assert "has no chat template" in refused.message  # noqa: PT017
    else:
        assert score.token_count >= 2


async def test_stop_strings_end_a_proposal(backend: RemoteBackend) -> None:
    for context in CONTEXTS:
        text = (await proposed(backend, context)).text
        if len(text.strip()) > 1:
            break
    else:
        pytest.fail("nothing was proposed")
    stop = text.strip()[0]
    stopped = await backend.propose(ProposeRequest(context, 8, stop=(stop,)), soon())
    assert stopped.finish is SegmentFinish.STOP
    assert stopped.text.endswith(stop)


async def test_a_seed_repeats_its_draws(backend: RemoteBackend) -> None:
    def drawing(seed: int) -> ProposeRequest:
        return ProposeRequest(CONTEXTS[0], 8, Sampling(temperature=1.5, top_p=0.95, seed=seed))

    first, again = [await backend.propose(drawing(1), soon()) for _ in range(2)]
    assert first.text == again.text
    assert first.own_score is None
    others = {(await backend.propose(drawing(seed), soon())).text for seed in range(2, 8)}
    assert len(others) > 1


async def test_what_cannot_fit_is_refused(backend: RemoteBackend) -> None:
    words = " word" * (backend.model.context_window + 1)
    with pytest.raises(ContextTooLong):
        await proposed(backend, Context(f"A{words}"))
    with pytest.raises(ContextTooLong):
        await scored(backend, Context(f"A{words}"), *CANDIDATES)


async def test_special_tokens_in_text_are_refused(backend: RemoteBackend) -> None:
    tokenizer = backend._encoder.tokenizer
    end = tokenizer.token_text(tokenizer.end_ids[0])
    with pytest.raises(InvalidArgument, match=r"context\.raw_prompt: spells a special token"):
        await proposed(backend, Context(f"say {end} now"))
    with pytest.raises(InvalidArgument, match=r"context\.committed_segments\[1\]"):
        await scored(backend, Context("say", (" it", end)), *CANDIDATES)
    with pytest.raises(InvalidArgument, match=r"candidates\[1\]\.text: spells"):
        await scored(backend, CONTEXTS[0], CANDIDATES[0], Candidate(end, finished=False))


async def test_a_call_that_is_given_up_harms_no_other(backend: RemoteBackend) -> None:
    (before,) = await scored(backend, CONTEXTS[0], CANDIDATES[0])
    with pytest.raises(DeadlineExceeded):
        await backend.propose(ProposeRequest(CONTEXTS[0], 64), Deadline.after(0.0))
    call = asyncio.ensure_future(proposed(backend, CONTEXTS[0], tokens=64))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    (after,) = await scored(backend, CONTEXTS[0], CANDIDATES[0])
    assert close(before, after)
