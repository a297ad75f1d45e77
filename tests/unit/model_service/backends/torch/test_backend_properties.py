"""Whatever mix of calls runs, each gets what the model itself says; and nothing leaks."""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from model_service.backends.torch.backend import TorchBackend
from model_service.backends.torch.scheduler import BatchLimits
from model_service.core.types import Candidate, Context, ProposeRequest, ScoreRequest
from specfuse.deadline import Deadline
from specfuse.errors import ContextTooLong, Overloaded
from tests.support import tiny_models
from tests.support.torch_serving import assert_plain, generated, plainly_scored, serving

NEVER = Deadline.never()


@dataclass(frozen=True)
class Shape:
    """What the engine has: tokens a pass, and memory."""

    batch_tokens: int
    cache_bytes: int


PIECEMEAL = Shape(batch_tokens=8, cache_bytes=1 << 22)
ROOMY = Shape(batch_tokens=400, cache_bytes=1 << 22)
CRAMPED = Shape(batch_tokens=40, cache_bytes=3 << 16)
PIECES = (
    " The capital",
    " of France is Paris,",
    " and 42 + 17 = 59.",
    " Yes:\n",
    " Then it went on, quietly, to finish what had been begun",
    " 3.14",
)

prompts = st.sampled_from(["Question:", "Question: why?", "A well-known model, asked twice"])
contexts = st.builds(Context, prompts, st.lists(st.sampled_from(PIECES), max_size=4).map(tuple))
candidates = st.lists(
    st.builds(Candidate, st.sampled_from(PIECES), st.booleans()), min_size=1, max_size=4
).map(tuple)
requests = st.one_of(
    st.builds(ProposeRequest, contexts, st.integers(1, 9)),
    st.builds(ScoreRequest, contexts, candidates),
)
batches = st.lists(st.lists(requests, min_size=1, max_size=5), min_size=1, max_size=3)


async def _answered_and_checked(
    architecture: str, rounds: list[list[ProposeRequest | ScoreRequest]], shape: Shape
) -> None:
    limits = BatchLimits(shape.batch_tokens, calls=8)
    async with serving(architecture, batch=limits, kv_cache_bytes=shape.cache_bytes) as backend:
        for batch in rounds:
            await asyncio.gather(
                *(_checked(backend, architecture, request, shape) for request in batch)
            )


async def _checked(
    backend: TorchBackend, architecture: str, request: ProposeRequest | ScoreRequest, shape: Shape
) -> None:
    try:
        if isinstance(request, ProposeRequest):
            proposal = await backend.propose(request, NEVER)
            text = generated(backend, architecture, request.context, request.max_tokens)
            assert proposal.text == text
            return
        scores = await backend.score(request, NEVER)
    except (ContextTooLong, Overloaded):
        assert shape is CRAMPED
        return
    for found, candidate in zip(scores.scores, request.candidates, strict=True):
        assert_plain(found, plainly_scored(backend, architecture, request.context, candidate))


@pytest.mark.parametrize("architecture", tiny_models.PACKED)
@settings(max_examples=12, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(rounds=batches, shape=st.sampled_from([PIECEMEAL, ROOMY, CRAMPED]))
def test_any_mix_of_calls_gets_the_models_own_answers(
    architecture: str, rounds: list[list[ProposeRequest | ScoreRequest]], shape: Shape
) -> None:
    asyncio.run(_answered_and_checked(architecture, rounds, shape))


async def _query(backend: TorchBackend, draws: random.Random) -> None:
    """A short query of a few rounds, as the fuser asks them."""
    context = Context(f"{draws.choice(('Hello', 'Why'))} {draws.randrange(10_000)}?")
    for _ in range(draws.randint(1, 3)):
        proposal = await backend.propose(ProposeRequest(context, 4), NEVER)
        pieces: Sequence[str] = draws.sample(PIECES, 2)
        both = tuple(Candidate(text, finished=False) for text in (*pieces, proposal.text) if text)
        await backend.score(ScoreRequest(context, both), NEVER)
        winner = draws.choice(both).text
        context = Context(context.prompt, (*context.committed, winner))


async def _abandoned_at_random(backend: TorchBackend, number: int) -> None:
    draws = random.Random(number)
    query = asyncio.create_task(_query(backend, draws))
    if draws.random() < 0.3:
        await asyncio.sleep(draws.random() * 0.05)
        query.cancel()
    with suppress(asyncio.CancelledError, Overloaded):
        await query


def _resident_bytes() -> int:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_two_thousand_queries_leave_nothing_behind() -> None:
    budget = 1 << 21
    async with serving(
        "llama", kv_cache_bytes=budget, batch=BatchLimits(tokens=64, calls=16)
    ) as backend:
        store = backend._scheduler._engine._store
        resident: list[int] = []
        for start in range(0, 2000, 20):
            await asyncio.gather(
                *(_abandoned_at_random(backend, number) for number in range(start, start + 20))
            )
            assert store.used_bytes <= budget
            resident.append(_resident_bytes())
        assert not backend._scheduler._line
    idle = store.used_bytes
    assert all(node.leases == 0 for node in store._by_use)
    store.clear()
    assert (store.used_bytes, store.contexts) == (0, 0)
    assert idle <= budget
    assert resident[-1] - resident[len(resident) // 2] < 16 << 20
