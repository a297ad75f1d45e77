"""Tiny models served by the torch backend, and what the models say without it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import torch

from model_service.backends.torch.backend import EngineLimits, TorchBackend, backend_for
from model_service.backends.torch.scheduler import BatchLimits
from model_service.core.scores import score_of
from model_service.core.types import Candidate, Context, Evidence, Score
from tests.support import tiny_models
from tests.support.observers import RecordingObserver


@asynccontextmanager
async def serving(
    architecture: str,
    *,
    kv_cache_bytes: int = 1 << 24,
    batch: BatchLimits | None = None,
    observer: RecordingObserver | None = None,
) -> AsyncIterator[TorchBackend]:
    """A tiny model's backend; passes are small, so that contexts are fed in pieces."""
    limits = EngineLimits(kv_cache_bytes, batch or BatchLimits(tokens=24, calls=16), threads=1)
    loaded = tiny_models.loaded(architecture)
    backend = backend_for(architecture, loaded, limits, observer or RecordingObserver())
    try:
        yield backend
    finally:
        await backend.close()


def generated(backend: TorchBackend, architecture: str, context: Context, tokens: int) -> str:
    """What `generate` says, as the text of a whole segment."""
    ids = backend._encoder.tokenizer.context_ids(context)
    output = tiny_models.reference(architecture).generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        max_new_tokens=tokens,
        do_sample=False,
        pad_token_id=0,
    )
    draft = backend._encoder.tokenizer.draft(context)
    for token in output[0, len(ids) :].tolist():
        if token in backend._encoder.tokenizer.end_ids:
            return draft.whole().text
        draft.append(token)
    return draft.cut().text


@dataclass(frozen=True, slots=True)
class PlainlyScored:
    """A candidate's score, and token by token what its evidence is made of."""

    score: Score
    regrets: tuple[float, ...]
    entropies: tuple[float, ...]
    offsets: tuple[int, ...]


def plainly_scored(
    backend: TorchBackend, architecture: str, context: Context, candidate: Candidate
) -> PlainlyScored:
    """One candidate scored in one forward pass of the model as it is."""
    tokenizer = backend._encoder.tokenizer
    ids = tokenizer.context_ids(context)
    own = tokenizer.segment_ids(candidate.text, context)
    own += tokenizer.end_ids[:1] if candidate.finished else ()
    with torch.inference_mode():
        logits = tiny_models.reference(architecture)(torch.tensor([ids + own])).logits[0]
    logprobs = torch.log_softmax(logits.double(), -1)[len(ids) - 1 : -1]
    scored = [float(logprobs[i, token]) for i, token in enumerate(own)]
    return PlainlyScored(
        score_of(scored, candidate.text),
        tuple((logprobs.amax(-1) - torch.tensor(scored)).tolist()),
        tuple((-logprobs * logprobs.exp()).sum(-1).tolist()),
        tokenizer.offsets(candidate, context),
    )


def assert_same(found: Score, expected: Score) -> None:
    """Equal within 1e-4, token by token."""
    assert found.token_logprobs == pytest.approx(expected.token_logprobs, abs=1e-4)
    assert found.logprob_sum == pytest.approx(expected.logprob_sum, abs=1e-4)
    assert found.byte_count == expected.byte_count


def assert_plain(found: Score, expected: PlainlyScored) -> None:
    """Equal within 1e-4, token by token, and so is the evidence."""
    assert_same(found, expected.score)
    assert found.evidence is not None
    _assert_evident(found.evidence, expected)


def _assert_evident(found: Evidence, expected: PlainlyScored) -> None:
    assert found.regret_sum == pytest.approx(sum(expected.regrets), abs=1e-4)
    assert found.regret_max == pytest.approx(max(expected.regrets), abs=1e-4)
    assert 0.0 <= found.regret_max <= found.regret_sum
    assert found.weakest_logprob == pytest.approx(min(expected.score.token_logprobs), abs=1e-4)
    places = [
        (offset, pytest.approx(entropy, abs=1e-4))
        for regret, entropy, offset in zip(
            expected.regrets, expected.entropies, expected.offsets, strict=True
        )
        if regret > max(expected.regrets) - 1e-4
    ]
    assert (found.regret_offset, found.entropy) in places
    weakest = [
        offset
        for logprob, offset in zip(expected.score.token_logprobs, expected.offsets, strict=True)
        if logprob < min(expected.score.token_logprobs) + 1e-4
    ]
    assert found.weakest_offset in weakest
