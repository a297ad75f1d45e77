"""What a server is found to do by having it do it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from model_service.backends.remote.server import (
    Branch,
    Generated,
    Identity,
    Judged,
    Load,
    TokenizedContext,
)
from model_service.backends.remote.trials import Abilities, tried
from model_service.backends.text.encoders import TokenIds
from model_service.backends.text.tokenizer import SegmentTokenizer
from model_service.core.types import Candidate, Sampling
from specfuse.deadline import Deadline
from specfuse.errors import ModelFailure
from tests.support.tokenizers import kind

TOKENIZER = SegmentTokenizer(kind("byte_bpe_digits").published)


class PlayedServer:
    """Every token has the same probability; a subclass is wrong in one way."""

    async def identify(self, deadline: Deadline) -> Identity:
        return Identity("played")

    async def spells(self, text: str, ids: TokenIds, deadline: Deadline) -> bool:
        return TOKENIZER.whole_ids(text) == ids

    async def generate(
        self, context: TokenizedContext, tokens: int, sampling: Sampling, deadline: Deadline
    ) -> Generated:
        ids = TOKENIZER.segment_ids(" and so on", context.context)[:tokens]
        return Generated(ids, tuple(-1.0 for _ in ids))

    async def judge(
        self, context: TokenizedContext, branches: Sequence[Branch], deadline: Deadline
    ) -> Judged:
        return Judged(tuple(tuple(-1.0 for _ in branch.ids) for branch in branches))

    async def load(self, deadline: Deadline) -> Load | None:
        return None


class SwayedServer(PlayedServer):
    """What it says of candidates depends on how many there are."""

    async def judge(
        self, context: TokenizedContext, branches: Sequence[Branch], deadline: Deadline
    ) -> Judged:
        return Judged(tuple((-1.0 * len(branches),) * len(branch.ids) for branch in branches))


class JoiningServer(PlayedServer):
    """Is sent text, and joins what it generated to other tokens, but for the first."""

    async def generate(
        self, context: TokenizedContext, tokens: int, sampling: Sampling, deadline: Deadline
    ) -> Generated:
        plain = await super().generate(context, tokens, sampling, deadline)
        first = TOKENIZER.spell(plain.ids[0]).decode()

        def scored_as(candidate: Candidate) -> TokenIds:
            return plain.ids[:1] if candidate.text == first else (0,)

        # Beyond the first, the numbers would not be those of scoring.
        wrong = (-1.0, *(-9.0 for _ in plain.ids[1:]))
        return Generated(plain.ids, wrong, scored_as=scored_as)


async def test_a_server_that_is_right_is_found_so() -> None:
    found = await tried(PlayedServer(), TOKENIZER, Deadline.never())
    assert found == Abilities(exact=True, exact_when_sampling=True, caches=False)


async def test_candidates_must_not_sway_each_other() -> None:
    with pytest.raises(ModelFailure, match="depends on those beside it"):
        await tried(SwayedServer(), TOKENIZER, Deadline.never())


async def test_only_tokens_that_scoring_would_score_are_compared() -> None:
    found = await tried(JoiningServer(), TOKENIZER, Deadline.never())
    assert found.exact


class TellingServer(PlayedServer):
    """Tells the most probable tokens' numbers, too: of those that it generates, by default."""

    best = -1.0

    async def judge(
        self, context: TokenizedContext, branches: Sequence[Branch], deadline: Deadline
    ) -> Judged:
        plain = await super().judge(context, branches, deadline)
        return replace(plain, best=tuple((self.best,) * len(row) for row in plain.logprobs))


class StrayingServer(TellingServer):
    """Generates other tokens than those that it says are the most probable."""

    best = -0.5


@pytest.mark.parametrize(
    ("server", "evidence"),
    [(PlayedServer(), False), (TellingServer(), True), (StrayingServer(), False)],
)
async def test_the_most_probable_tokens_are_believed_if_they_are_generated(
    server: PlayedServer, evidence: bool
) -> None:
    found = await tried(server, TOKENIZER, Deadline.never())
    assert found.evidence == evidence
