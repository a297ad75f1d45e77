"""What a server can do, found by having it do it, before there are any prompts.

Flags, versions and defaults of servers decide whether their numbers are what they seem to be; none
of them tells. So the server generates and scores a few tokens, and the numbers are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import fmean
from typing import Final

from model_service.backends.remote.server import Branch, Generated, Server, TokenizedContext
from model_service.backends.text.encoders import TokenIds
from model_service.backends.text.tokenizer import SegmentTokenizer
from model_service.core.types import Candidate, Context, Sampling
from specfuse.deadline import Deadline
from specfuse.errors import Misconfigured, ModelFailure

_TEXTS: Final = (
    "The quick brown fox jumps over 13 lazy dogs, and then it sleeps until noon.",
    "def area(width, height):\n    return width * height\n",
    "Question: what is the capital of France? Answer:",
)
_SESSION: Final = "trial"
_TOKENS: Final = 4
_WARM: Final = Sampling(temperature=2.0, top_p=0.9, seed=1)
_SAME_NUMBERS: Final = 0.1
"""Log-probabilities that differ by more are not of the same distribution. What half precision of a
cache does to them is far less, what a temperature of 2 does far more."""

_CANDIDATES: Final = (
    Candidate("", finished=True),
    Candidate(" Then", finished=False),
    Candidate(" Then they went on until noon.", finished=True),
)
_SAME_TOKENS: Final = 0.5
"""Numbers that differ by more on average are not of the same tokens. Improbable tokens' differ by
more than `_SAME_NUMBERS` where half precision meets batches of another shape."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a server was seen to do.

    `exact` and `exact_when_sampling` say that the numbers that come with generated tokens are those
    that scoring gives; `caches` that a context is not computed twice; `evidence` that scoring tells
    of the most probable tokens, and that these are the ones that are generated.
    """

    exact: bool
    exact_when_sampling: bool
    caches: bool
    evidence: bool = False


async def tried(server: Server, tokenizer: SegmentTokenizer, deadline: Deadline) -> Abilities:
    """Has the server do all that it will be asked for.

    Raises:
        Misconfigured: its tokenizer is not the one given, or it lacks what a flag of its would
            give it.
        ModelFailure: what it answers makes no sense.
        Unavailable, Overloaded, DeadlineExceeded: as for `Server`.
    """
    await _check_tokenizer(server, tokenizer, deadline)
    trial = _Trial(server, tokenizer, deadline)
    await trial.check_candidates_are_independent()
    greedy = await trial.compared(Sampling())
    exact = _are_close([each.difference for each in greedy])
    return Abilities(
        exact=exact,
        exact_when_sampling=exact
        and _are_close([each.difference for each in await trial.compared(_WARM)]),
        caches=await trial.caches(),
        evidence=_are_close([each.regret for each in greedy]),
    )


def _are_close(differences: Sequence[float | None]) -> bool:
    """Whether all of those that are known are small, and there are any."""
    known = [difference for difference in differences if difference is not None]
    return bool(known) and max(known) < _SAME_NUMBERS


@dataclass(frozen=True, slots=True)
class _Compared:
    """The numbers of generated tokens, those that scoring gives them, and its best ones."""

    generated: tuple[float, ...] | None
    scored: tuple[float, ...]
    best: tuple[float, ...] | None

    @property
    def difference(self) -> float | None:
        """The largest difference between the numbers of generating and of scoring, if known."""
        if self.generated is None:
            return None
        return max(abs(a - b) for a, b in zip(self.generated, self.scored, strict=False))

    @property
    def regret(self) -> float | None:
        """How far the best are from what was generated, if they are known: not far, if greedily."""
        if self.best is None:
            return None
        return max(abs(a - b) for a, b in zip(self.best, self.scored, strict=True))


async def _check_tokenizer(server: Server, tokenizer: SegmentTokenizer, deadline: Deadline) -> None:
    for text in _TEXTS:
        if not await server.spells(text, tokenizer.whole_ids(text), deadline):
            raise Misconfigured(
                "tokenizer: it is not the one of the model that the server runs: they disagree "
                f"about {text[:20]!r}; give the model's own"
            )


class _Trial:
    def __init__(self, server: Server, tokenizer: SegmentTokenizer, deadline: Deadline) -> None:
        self._server = server
        self._tokenizer = tokenizer
        self._deadline = deadline
        self._contexts = [
            TokenizedContext(context, tokenizer.context_ids(context))
            for context in (Context(text, session_id=_SESSION) for text in _TEXTS)
        ]

    async def compared(self, sampling: Sampling) -> list[_Compared]:
        """What generated tokens come with beside what scoring gives them, where it can be said."""
        compared = [await self._compared_after(context, sampling) for context in self._contexts]
        return [each for each in compared if each is not None]

    async def check_candidates_are_independent(self) -> None:
        """Checks that what is said of a candidate does not depend on those beside it.

        Raises:
            ModelFailure: it does.
        """
        context = self._contexts[0]
        branches = [self._ended(context, candidate) for candidate in _CANDIDATES]
        beside = await self._server.judge(context, branches, self._deadline)
        alone = [
            (await self._server.judge(context, [branch], self._deadline)).logprobs[0]
            for branch in branches
        ]
        pairs = [*zip(chain(*beside.logprobs), chain(*alone), strict=False)]
        same_counts = list(map(len, beside.logprobs)) == list(map(len, alone))
        if not same_counts or fmean(abs(a - b) for a, b in pairs) > _SAME_TOKENS:
            raise ModelFailure("what the server says of a candidate depends on those beside it")

    async def caches(self) -> bool:
        """Whether a context that was there a moment ago is still."""
        context = self._contexts[0]
        end = Branch(Candidate("", finished=True), self._tokenizer.end_ids[:1])
        await self._server.judge(context, [end], self._deadline)
        again = await self._server.judge(context, [end], self._deadline)
        return again.cached_tokens > 0

    async def _compared_after(
        self, context: TokenizedContext, sampling: Sampling
    ) -> _Compared | None:
        generated = await self._server.generate(context, _TOKENS, sampling, self._deadline)
        if not generated.ids:
            raise ModelFailure("the server generates no tokens")
        branch = self._branch(context, generated)
        if branch is None:
            return None
        judged = await self._server.judge(context, [branch], self._deadline)
        if len(judged.logprobs[0]) != len(branch.ids):
            return None
        best = None if judged.best is None else judged.best[0]
        return _Compared(generated.logprobs, judged.logprobs[0], best)

    def _branch(self, context: TokenizedContext, generated: Generated) -> Branch | None:
        """As much of what was generated, from its beginning, as is scored by the same tokens."""
        for count in range(len(generated.ids), 0, -1):
            ids = generated.ids[:count]
            candidate = self._candidate(context, ids)
            if generated.scores(candidate, ids):
                return Branch(candidate, ids)
        return None

    def _candidate(self, context: TokenizedContext, ids: TokenIds) -> Candidate:
        draft = self._tokenizer.draft(context.context)
        finished = ids[-1] in self._tokenizer.end_ids
        for token in ids[: len(ids) - finished]:
            draft.append(token)
        return Candidate(draft.whole().text, finished)

    def _ended(self, context: TokenizedContext, candidate: Candidate) -> Branch:
        ids = self._tokenizer.segment_ids(candidate.text, context.context)
        return Branch(candidate, ids + self._tokenizer.end_ids[:1] if candidate.finished else ids)
