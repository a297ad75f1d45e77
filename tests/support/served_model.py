"""A backend on an inference server, checked against the model itself: real servers and fakes alike.

Each check is a coroutine of `CHECKS`, to be called with the server. What is expected is computed by
transformers in float32, from the ids that the backend's own tokenizer gives.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Final

import pytest
import torch
from transformers import PreTrainedModel

from model_service.backends.registry import open_backend
from model_service.backends.remote.backend import RemoteBackend
from model_service.backends.remote.server import Branch, Generated, Server, TokenizedContext
from model_service.backends.remote.settings import RemoteSection
from model_service.backends.text.contexts import ContextEncoder
from model_service.backends.text.encoders import TokenIds
from model_service.backends.text.tokenizer import SegmentTokenizer
from model_service.core.types import (
    Candidate,
    Context,
    ProposeRequest,
    Sampling,
    ScoreRequest,
    SegmentFinish,
)
from model_service.ports import BackendHost
from specfuse.deadline import Deadline
from specfuse.errors import ContextTooLong
from tests.support.observers import RecordingObserver
from tests.support.tokenizers import ARABIC, CODE, EMOJI, ENGLISH, THAI

PATIENCE_SECONDS: Final = 300.0
"""A real server's first answer may take a minute on a busy machine."""

RARE: Final = " ꙮ and 𓀀"
"""Characters that no tokenizer has whole."""

CONTEXTS: Final = (
    Context(ENGLISH),
    Context("Question: what is 1 + 1?\nAnswer:", (" It is", " 2", ", and")),
    Context(f"{CODE}\n{THAI}\n", ("\n\n", EMOJI)),
)
CANDIDATES: Final = (
    Candidate(" and so it went on", finished=False),
    Candidate(EMOJI, finished=False),
    Candidate(ARABIC, finished=True),
    Candidate("", finished=True),
    Candidate(RARE, finished=False),
    Candidate(" and", finished=True),
)
_WARM: Final = 2.0
"""The highest temperature that is taken everywhere. A random model then ends now and then."""


@dataclass(frozen=True)
class ServedModel:
    """A server, and what is known of the model that it runs."""

    section: RemoteSection
    reference: PreTrainedModel
    tolerance: float = 2e-5
    """How far a log-probability may be off."""
    observer: RecordingObserver = field(default_factory=RecordingObserver)
    readiness: asyncio.Queue[bool] = field(default_factory=asyncio.Queue)
    """What the backend says of the server's coming and going."""

    @asynccontextmanager
    async def backend(self) -> AsyncIterator[RemoteBackend]:
        """The backend, opened."""
        host = BackendHost("served", self.observer, on_ready=self.readiness.put_nowait)
        backend = await open_backend(self.section.kind, self.section, host)
        assert isinstance(backend, RemoteBackend)
        try:
            yield backend
        finally:
            await backend.close()

    def logprobs(self, context: TokenIds, branch: TokenIds) -> list[float]:
        """What the model says of the branch's tokens after the context."""
        with torch.inference_mode():
            logits = self.reference(torch.tensor([[*context, *branch]])).logits[0]
        rows = torch.log_softmax(logits.float(), -1)
        return [float(rows[len(context) - 1 + at, token]) for at, token in enumerate(branch)]

    def greedy(self, context: TokenIds, tokens: int) -> TokenIds:
        """The most probable tokens after the context, one after another."""
        ids = list(context)
        for _ in range(tokens):
            with torch.inference_mode():
                ids.append(int(self.reference(torch.tensor([ids])).logits[0, -1].argmax()))
        return tuple(ids[len(context) :])

    def approx(self, logprobs: Sequence[float]) -> object:
        """Equal, but for rounding."""
        return pytest.approx(logprobs, abs=self.tolerance)


def patience() -> Deadline:
    """Time enough for anything that comes at all."""
    return Deadline.after(PATIENCE_SECONDS)


def encoder_of(backend: RemoteBackend) -> ContextEncoder:
    """What turns a backend's calls into ids."""
    return backend._encoder


def server_of(backend: RemoteBackend) -> Server:
    """What a backend asks."""
    return backend._server


def tokenized(backend: RemoteBackend, context: Context) -> TokenizedContext:
    """A context with its ids."""
    return TokenizedContext(context, encoder_of(backend).tokenizer.context_ids(context))


async def scores_are_the_models_own(served: ServedModel) -> None:
    async with served.backend() as backend:
        for context in CONTEXTS:
            ids, branches = encoder_of(backend).branches(context, CANDIDATES)
            assert any(map(_is_incomplete(backend), sum(branches, ())))
            scores = await backend.score(ScoreRequest(context, CANDIDATES), patience())
            assert [score.token_logprobs for score in scores.scores] == [
                served.approx(served.logprobs(ids, branch)) for branch in branches
            ]


async def any_token_is_scored(served: ServedModel) -> None:
    """Ends, control tokens, halves of characters, the first and the last of the vocabulary."""
    async with served.backend() as backend:
        context = tokenized(backend, CONTEXTS[0])
        tokens = _peculiar_tokens(backend, served)
        branches = [(*context.ids[-1:], token, *tokens[:2]) for token in tokens]
        judged = await server_of(backend).judge(
            context, [Branch(Candidate("?", finished=False), ids) for ids in branches], patience()
        )
        assert [list(scored) for scored in judged.logprobs] == [
            served.approx(served.logprobs(context.ids, ids)) for ids in branches
        ]


async def a_greedy_draft_is_the_most_probable(served: ServedModel) -> None:
    async with served.backend() as backend:
        for context in CONTEXTS:
            before = tokenized(backend, context)
            generated = await _generated(backend, before, 12, Sampling())
            assert generated.ids == served.greedy(before.ids, len(generated.ids))
            assert len(generated.ids) == 12 or generated.ids[-1] in _ends(backend)


async def what_a_draft_brings_is_what_scoring_says(served: ServedModel) -> None:
    async with served.backend() as backend:
        assert backend.model.capabilities.own_scores
        brought = 0
        for context in CONTEXTS:
            proposal = await backend.propose(ProposeRequest(context, 8), patience())
            if proposal.own_score is None:  # the text has other ids than those that were drafted
                continue
            candidate = Candidate(proposal.text, proposal.finish is SegmentFinish.END)
            scores = await backend.score(ScoreRequest(context, (candidate,)), patience())
            own, scored = proposal.own_score, scores.scores[0]
            assert list(own.token_logprobs) == served.approx(scored.token_logprobs)
            assert own.byte_count == scored.byte_count
            brought += 1
        assert brought


async def an_answer_that_ends_says_so(served: ServedModel) -> None:
    """At whichever token: also at the last that it may have."""
    async with served.backend() as backend:
        context = tokenized(backend, CONTEXTS[1])
        for seed in count():
            sampling = Sampling(temperature=_WARM, seed=seed)
            generated = await _generated(backend, context, 128, sampling)
            if generated.ids[-1] in _ends(backend):
                break
        assert not set(generated.ids[:-1]) & set(_ends(backend))
        request = ProposeRequest(context.context, len(generated.ids), sampling)
        if served.section.kind != "sglang":  # where a seed counts with a flag only
            proposal = await backend.propose(request, patience())
            assert proposal.finish is SegmentFinish.END
            assert proposal.text.encode() == _spelt(backend, generated.ids[:-1])


async def a_seed_repeats_its_draws(served: ServedModel) -> None:
    async with served.backend() as backend:
        context = tokenized(backend, CONTEXTS[0])
        drawn = [
            (await _generated(backend, context, 16, Sampling(1.0, 0.9, 50, seed))).ids
            for seed in (1, 1, 2, 3)
        ]
        assert drawn[0] == drawn[1]
        assert len(set(drawn)) == 3


async def a_stop_string_ends_a_segment(served: ServedModel) -> None:
    async with served.backend() as backend:
        context = CONTEXTS[0]
        free = await backend.propose(ProposeRequest(context, 16), patience())
        at = len(free.text) // 2
        stop = free.text[at : at + 2]
        request = ProposeRequest(context, 16, stop=(stop,))
        stopped = await backend.propose(request, patience())
        assert stopped.finish is SegmentFinish.STOP
        assert stopped.text == free.text[: free.text.index(stop) + len(stop)]


async def the_window_is_used_to_its_end(served: ServedModel) -> None:
    async with served.backend() as backend:
        window = backend.model.context_window
        digit = (Candidate("7", finished=False),)
        for wanted in (window - 1, window):
            context = _context_of(backend, wanted)
            scoring = backend.score(ScoreRequest(context, digit), patience())
            proposing = backend.propose(ProposeRequest(context, 1), patience())
            if wanted < window:
                assert (await scoring).scores[0].token_count == 1
                assert (await proposing).token_count <= 1
                continue
            for call in (scoring, proposing):
                with pytest.raises(ContextTooLong, match=f"{window + 1} .* {window};"):
                    await call


async def calls_at_once_do_not_mix(served: ServedModel) -> None:
    async with served.backend() as backend:
        requests = [
            ScoreRequest(context, CANDIDATES[first:]) for context in CONTEXTS for first in range(4)
        ]
        together = await asyncio.gather(*(backend.score(one, patience()) for one in requests))
        for request, scores in zip(requests, together, strict=True):
            ids, branches = encoder_of(backend).branches(request.context, request.candidates)
            assert [list(score.token_logprobs) for score in scores.scores] == [
                served.approx(served.logprobs(ids, branch)) for branch in branches
            ]


async def a_context_that_was_there_is_reported(served: ServedModel) -> None:
    async with served.backend() as backend:
        context = _context_of(backend, 300)
        for _ in range(2):
            proposal = await backend.propose(ProposeRequest(context, 2), patience())
        assert proposal.usage.context_tokens == 300
        assert 128 <= proposal.usage.cached_tokens < 300


Check = Callable[[ServedModel], Awaitable[None]]

CHECKS: Final[tuple[Check, ...]] = (
    scores_are_the_models_own,
    any_token_is_scored,
    a_greedy_draft_is_the_most_probable,
    what_a_draft_brings_is_what_scoring_says,
    an_answer_that_ends_says_so,
    a_seed_repeats_its_draws,
    a_stop_string_ends_a_segment,
    the_window_is_used_to_its_end,
    calls_at_once_do_not_mix,
    a_context_that_was_there_is_reported,
)


def named(check: Check) -> str:
    """The check's name, for the report of tests."""
    return str(check.__name__)  # type: ignore[attr-defined]


async def _generated(
    backend: RemoteBackend, context: TokenizedContext, tokens: int, sampling: Sampling
) -> Generated:
    return await server_of(backend).generate(context, tokens, sampling, patience())


def _ends(backend: RemoteBackend) -> TokenIds:
    return encoder_of(backend).tokenizer.end_ids


def _spelt(backend: RemoteBackend, ids: TokenIds) -> bytes:
    spelt = b"".join(map(encoder_of(backend).tokenizer.spell, ids))
    return spelt.decode(errors="ignore").encode()


def _is_incomplete(backend: RemoteBackend) -> Callable[[int], bool]:
    def is_incomplete(token: int) -> bool:
        try:
            encoder_of(backend).tokenizer.spell(token).decode()
        except UnicodeDecodeError:
            return True
        return False

    return is_incomplete


def _peculiar_tokens(backend: RemoteBackend, served: ServedModel) -> list[int]:
    last = int(served.reference.config.vocab_size) - 1
    halves = filter(_is_incomplete(backend), range(last))
    silent = (token for token in range(last) if not _tokenizer(backend).spell(token))
    return [*_ends(backend), *_first(halves, 4), *_first(silent, 6), 0, last]


def _first(tokens: Iterator[int], most: int) -> list[int]:
    return [token for token, _ in zip(tokens, range(most), strict=False)]


def _tokenizer(backend: RemoteBackend) -> SegmentTokenizer:
    return encoder_of(backend).tokenizer


def _context_of(backend: RemoteBackend, tokens: int) -> Context:
    """A context of so many tokens. A digit on its own is a token everywhere."""
    short = Context(ENGLISH)
    missing = tokens - len(_tokenizer(backend).context_ids(short))
    context = Context(ENGLISH, tuple("123456789"[at % 9] for at in range(missing)))
    assert len(_tokenizer(backend).context_ids(context)) == tokens
    return context
