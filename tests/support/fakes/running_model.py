"""A tiny model as an inference server runs it: in float32, and with what it has computed before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import torch
from transformers import DynamicCache

from tests.support import tiny_models


@dataclass(frozen=True, slots=True)
class Drawing:
    """How tokens are drawn. `temperature` 0 is greedy; `top_k` 0 and `top_p` 1 cut nothing off."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Drawn:
    """A token and its log-probability.

    That is `raw` as the model gives it, `tempered` with the temperature that it was drawn at, and
    `processed` in the distribution that it was drawn from. `best` is the model's most probable
    token in its place, with the same three numbers.
    """

    token: int
    raw: float
    tempered: float
    processed: float
    best: Drawn | None = None


class RunningModel:
    """One model and its cache."""

    def __init__(self, architecture: str) -> None:
        torch.set_num_threads(1)  # threads wait for each other, and starve on a busy machine
        self.architecture = architecture
        self.tokenizer = tiny_models.tokenizer(architecture)
        self.end = int(self.tokenizer.eos_token_id)
        self._model = tiny_models.reference(architecture)
        self._computed: list[tuple[int, ...]] = []

    @property
    def vocabulary(self) -> int:
        """The number of ids."""
        return int(self._model.config.vocab_size)

    @property
    def window(self) -> int:
        """The most tokens of a text."""
        return int(self._model.config.max_position_embeddings)

    def prompt_logprobs(self, ids: Sequence[int]) -> list[float | None]:
        """For each token its log-probability after those before it; none for the first."""
        rows = self._logprobs(ids)
        scored = [float(rows[at, token]) for at, token in enumerate(ids[1:])]
        return [None, *scored]

    def prompt_best(self, ids: Sequence[int]) -> list[tuple[int, float]]:
        """For each token but the first the most probable one in its place."""
        logprobs, tokens = self._logprobs(ids)[:-1].max(-1)
        return [*zip(tokens.tolist(), logprobs.tolist(), strict=True)]

    async def continuation(
        self, ids: Sequence[int], drawing: Drawing, most: int
    ) -> AsyncIterator[Drawn]:
        """Token by token, to the end token or as many as asked for; lets others run in between."""
        generator = torch.Generator().manual_seed(drawing.seed)
        cache = DynamicCache()
        new = list(ids)
        for _ in range(most):
            drawn = self._drawn(self._logprobs(new, cache)[-1], drawing, generator)
            yield drawn
            if drawn.token == self.end:
                return
            new = [drawn.token]
            await asyncio.sleep(0)

    def cached(self, ids: Sequence[int]) -> int:
        """How many of the first tokens were computed before. From now on all of them were."""
        longest = max((_common(ids, known) for known in self._computed), default=0)
        self._computed.append(tuple(ids))
        return longest

    def _logprobs(self, ids: Sequence[int], cache: DynamicCache | None = None) -> torch.Tensor:
        """A row for each token, of what follows it."""
        with torch.inference_mode():
            logits = self._model(torch.tensor([list(ids)]), past_key_values=cache).logits[0]
        return torch.log_softmax(logits.float(), -1)

    def _drawn(self, raw: torch.Tensor, drawing: Drawing, generator: torch.Generator) -> Drawn:
        tempered = _tempered(raw, drawing.temperature)
        processed = _cut(tempered, drawing)
        token = int(torch.multinomial(processed.exp(), 1, generator=generator))
        numbers = (raw, tempered, processed)
        best = int(raw.argmax())
        return Drawn(
            token,
            *(float(row[token]) for row in numbers),
            best=Drawn(best, *(float(row[best]) for row in numbers)),
        )


def _tempered(raw: torch.Tensor, temperature: float) -> torch.Tensor:
    if temperature > 0:
        return torch.log_softmax(raw / temperature, -1)
    certain = torch.full_like(raw, -torch.inf)
    certain[raw.argmax()] = 0.0
    return certain


def _cut(tempered: torch.Tensor, drawing: Drawing) -> torch.Tensor:
    """The distribution that tokens are drawn from."""
    order = tempered.argsort(descending=True)
    before = tempered[order].exp().cumsum(-1) - tempered[order].exp()
    kept = order[before < drawing.top_p][: drawing.top_k or None]
    cut = torch.full_like(tempered, -torch.inf)
    cut[kept] = tempered[kept]
    return torch.log_softmax(cut, -1)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """The length of what both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))
