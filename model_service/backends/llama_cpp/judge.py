"""The judge of one context: has the model generate what it is to judge."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from model_service.backends.llama_cpp.forcing import Part, Single, grammar, parts
from model_service.backends.llama_cpp.refusals import GrammarRefused
from model_service.backends.remote import answers
from model_service.backends.text.encoders import TokenIds
from specfuse.errors import Misconfigured, ModelFailure

Numbers = tuple[float, float]
"""Of a token: the natural logarithm of its probability, and of the most probable one's there."""

Complete = Callable[[TokenIds, Mapping[str, object]], Awaitable[dict[str, Any]]]
"""Completes a prompt, as some parameters say, in one slot."""

_SURE: Final = 1000.0
"""Added to a logit, it makes a token certain; what is told of tokens stays the model's own."""

_LIKELY: Final = 128
_ALL: Final = 1 << 20
"""How many of the most probable tokens are told, to find one among them: first few, then all."""


_LEAST: Final = math.log(2.0**-149)
"""Of a probability below single precision's the server tells the lowest number there is."""


class Judge:
    """Scores branches of one context, one after another."""

    def __init__(self, complete: Complete, is_literal: Callable[[int], bool], decoy: int) -> None:
        """Scores nothing yet.

        Args:
            complete: Asks the server.
            is_literal: Whether a grammar can name a token.
            decoy: Such a token. Generated in place of one of which nothing would be told.
        """
        self._complete = complete
        self._is_literal = is_literal
        self._decoy = decoy
        self.cached: int | None = None
        """Tokens of the first prompt that the slot had; None as long as there was none."""

    async def judged(self, context: TokenIds, branch: TokenIds) -> list[Numbers]:
        """What is told of the branch's tokens.

        Raises:
            ModelFailure: what the server tells is of other tokens.
        """
        scored: list[Numbers] = []
        for part in parts(branch, self._is_literal):
            scored += await self._part(context + branch[: len(scored)], part)
        return scored

    async def _part(self, before: TokenIds, part: Part) -> list[Numbers]:
        if isinstance(part, Single):
            return [await self._single(before, part.token)]
        try:
            return await self._run(before, part.ids)
        except GrammarRefused:  # its vocabulary has special tokens that ours has not
            singles = (before + part.ids[:at] for at in range(len(part.ids)))
            return [
                await self._single(prompt, token)
                for prompt, token in zip(singles, part.ids, strict=True)
            ]

    async def _run(self, before: TokenIds, ids: TokenIds) -> list[Numbers]:
        body = {"n_predict": len(ids), "grammar": grammar(ids)}
        answer = await self._asked(before, body)
        generated = told(answer)
        if tuple(token for token, _ in generated) != ids:
            raise ModelFailure("the server generated other tokens than those it was to judge")
        return [*zip((logprob for _, logprob in generated), best(answer), strict=True)]

    async def _single(self, before: TokenIds, token: int) -> Numbers:
        for most in (_LIKELY, _ALL):
            body = {"n_predict": 1, "n_probs": most, "logit_bias": [[self._decoy, _SURE]]}
            answer = await self._asked(before, body)
            if [generated for generated, _ in told(answer)] != [self._decoy]:
                raise ModelFailure("the server generated another token than it was made to")
            for found, logprob in alternatives(answer):
                if found == token:
                    return logprob, best(answer)[0]
        raise ModelFailure("the server's model does not have a token that it was to judge")

    async def _asked(self, before: TokenIds, body: Mapping[str, object]) -> dict[str, Any]:
        answer = await self._complete(before, body)
        if self.cached is None:
            self.cached = cached(answer)
        return answer


def told(answer: Mapping[str, Any]) -> list[tuple[int, float]]:
    """The tokens of which an answer tells the probability, and its logarithm.

    Raises:
        ModelFailure: there is no such list.
        Misconfigured: the server decodes speculatively. Of a token that was guessed right it tells
            the probability 1, and nothing of others in its place.
    """
    place = "completion_probabilities"
    entries = [
        answers.mapping(entry, f"{place}[{at}]") for at, entry in enumerate(_entries(answer))
    ]
    if not all(entry.get("top_logprobs") for entry in entries) or _speculates(answer):
        raise Misconfigured(
            "url: the server decodes speculatively, and then does not tell what its model gives "
            "the tokens; start it without --spec-type and --model-draft"
        )
    return [_told(entry, f"{place}[{at}]") for at, entry in enumerate(entries)]


def _speculates(answer: Mapping[str, Any]) -> bool:
    """Whether the server says that it decodes speculatively. Not all versions say."""
    return bool(answer.get("generation_settings/speculative.types", "none") != "none")


def alternatives(answer: Mapping[str, Any]) -> list[tuple[int, float]]:
    """The most probable tokens in the place of the first that an answer tells of.

    Raises:
        ModelFailure: there is no such list.
    """
    return _alternatives(next(iter(_entries(answer)), None), 0)


def best(answer: Mapping[str, Any]) -> list[float]:
    """The most probable tokens' log-probabilities, in the places of those an answer tells of.

    Raises:
        ModelFailure: there are none.
    """
    return [
        max(logprob for _, logprob in _alternatives(entry, at))
        for at, entry in enumerate(_entries(answer))
    ]


def cached(answer: Mapping[str, Any]) -> int:
    """How much of the prompt the slot had."""
    return answers.count(answer.get("timings/cache_n"), "timings/cache_n")


def _entries(answer: Mapping[str, Any]) -> list[Any]:
    place = "completion_probabilities"
    return answers.sequence(answer.get(place, []), place)


def _alternatives(entry: Any, at: int) -> list[tuple[int, float]]:  # noqa: ANN401
    place = f"completion_probabilities[{at}]"
    found = answers.sequence(
        answers.mapping(entry, place).get("top_logprobs"), f"{place}.top_logprobs"
    )
    return [_told(one, f"{place}.top_logprobs[{rank}]") for rank, one in enumerate(found)]


def _told(entry: Any, place: str) -> tuple[int, float]:  # noqa: ANN401
    one = answers.mapping(entry, place)
    token = answers.count(one.get("id"), f"{place}.id")
    return token, max(_LEAST, answers.logprob(one.get("logprob"), f"{place}.logprob"))
