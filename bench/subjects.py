"""What the engine's benchmark compares: a model, our engine, the published way, transformers' own.

All run the same random weights on the same tokens. The vocabulary consists of words without
meaning, each one token, so that every text has exactly one encoding and lengths are exact.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from string import ascii_lowercase
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    ContinuousBatchingConfig,
    GenerationConfig,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from model_service.backends.text.tokenizer import SegmentTokenizer
from model_service.backends.torch.backend import EngineLimits, TorchBackend, backend_for
from model_service.backends.torch.loading import LoadedModel
from model_service.backends.torch.scheduler import BatchLimits
from model_service.core.types import Candidate, Context, ProposeRequest, ScoreRequest
from specfuse.deadline import Deadline
from tests.support.tokenizers import published

DRAFT_TOKENS = 10
KEPT_TOKENS = DRAFT_TOKENS - 1
"""A draft is cut back to the last whole word; here that is always one token less."""
OTHERS = 2
"""Candidates of other models. With a model's own there are three."""

NEVER = Deadline.never()
_END, _UNKNOWN = "</s>", "<unk>"
_OTHER_TOKENS = (_END, _UNKNOWN, "a", "Ġa")


@dataclass(frozen=True, slots=True)
class Shape:
    """A model's configuration, and where and how it runs."""

    config: PretrainedConfig
    device: torch.device
    dtype: torch.dtype

    def built(self) -> PreTrainedModel:
        """A model with random weights, always the same; it drafts words only."""
        torch.manual_seed(0)
        with self.device:
            config = type(self.config).from_dict(self.config.to_dict())
            model = AutoModelForCausalLM.from_config(config, dtype=self.dtype).eval()
        with torch.no_grad():
            model.get_output_embeddings().weight[: len(_OTHER_TOKENS)] = 0
        return model.requires_grad_(requires_grad=False)


def llama_35m(words: int = 10_752) -> LlamaConfig:
    """35M parameters in the proportions of Llama 3: four query heads to a key-value head."""
    return LlamaConfig(
        vocab_size=words,
        hidden_size=512,
        intermediate_size=1536,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        bos_token_id=None,
        eos_token_id=0,
    )


def llama_tiny(words: int = 512) -> LlamaConfig:
    """A model for trying out the benchmark itself."""
    return LlamaConfig(
        vocab_size=words,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        bos_token_id=None,
        eos_token_id=0,
    )


class Words:
    """Words without meaning, one token each: " aaa", " aab", ..."""

    def __init__(self, count: int) -> None:
        letters = ("".join(parts) for parts in product(ascii_lowercase, repeat=4))
        self._words = [next(letters) for _ in range(count - len(_OTHER_TOKENS))]
        tokens = [*_OTHER_TOKENS, *(f"Ġ{word}" for word in self._words)]
        vocabulary = {token: number for number, token in enumerate(tokens)}
        backend = Tokenizer(models.WordLevel(vocabulary, unk_token=_UNKNOWN))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        self.tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=backend, eos_token=_END, unk_token=_UNKNOWN
        )

    def text(self, seed: object, count: int) -> str:
        """So many words, the same for the same seed."""
        draws = random.Random(f"{seed}")
        return "".join(f" {draws.choice(self._words)}" for _ in range(count))


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of a round's parts."""

    draft: float
    score: float

    @property
    def whole(self) -> float:
        """Seconds of the round."""
        return self.draft + self.score


class Listener:
    """A backend observer that keeps the cache's size."""

    def __init__(self) -> None:
        self.used_bytes = 0
        self.peak_bytes = 0

    def queued(self, seconds: float) -> None:
        """Not needed."""

    def forward(self, kind: str, seconds: float, sequences: int) -> None:
        """Not needed."""

    def ingested(self, *, hit: int, miss: int) -> None:
        """Not needed."""

    def cache(self, *, used_bytes: int, **_: int) -> None:
        """Notes the size."""
        self.used_bytes = used_bytes
        self.peak_bytes = max(self.peak_bytes, used_bytes)


class Ours:
    """Our engine, through the port that the model service uses."""

    def __init__(
        self, shape: Shape, words: Words, threads: int | None = None, *, compiled: bool = False
    ) -> None:
        self.words = words
        self.listener = Listener()
        model = shape.built()
        self._model = model
        self._usual = model.config._attn_implementation  # noqa: SLF001 - its only name
        self.tokenizer = SegmentTokenizer(published(words.tokenizer))
        window = int(model.config.max_position_embeddings)
        limits = EngineLimits(1 << 30, BatchLimits(tokens=256, calls=64), threads, compiled)
        self.backend: TorchBackend = backend_for(
            "bench", LoadedModel(model, self.tokenizer, window, "random"), limits, self.listener
        )

    @contextmanager
    def plain(self) -> Iterator[PreTrainedModel]:
        """The model with its own attention, while no call runs."""
        ours = self._model.config._attn_implementation  # noqa: SLF001 - its only name
        self._model.set_attn_implementation(self._usual)
        try:
            yield self._model
        finally:
            self._model.set_attn_implementation(ours)

    async def warm(self, name: object, tokens: int) -> Context:
        """A context of so many tokens whose last segment is a candidate just scored."""
        prompt = Context(self.words.text(name, tokens - KEPT_TOKENS))
        segment = self.words.text((name, "winner"), KEPT_TOKENS)
        winner = Candidate(segment, finished=False)
        await self.backend.score(ScoreRequest(prompt, (winner,)), NEVER)
        return Context(prompt.prompt, (segment,))

    async def round(self, context: Context, seed: object) -> tuple[Timing, Context]:
        """One round: draft, score what others drafted, take up one of the three in turn."""
        began = time.perf_counter()
        proposal = await self.backend.propose(ProposeRequest(context, DRAFT_TOKENS), NEVER)
        drafted = time.perf_counter()
        texts = [self.words.text((seed, other), KEPT_TOKENS) for other in range(OTHERS)]
        candidates = tuple(Candidate(text, finished=False) for text in texts)
        await self.backend.score(ScoreRequest(context, candidates), NEVER)
        scored = time.perf_counter()
        winner = random.Random(f"{seed}").choice([proposal.text, *texts])
        following = Context(context.prompt, (*context.committed, winner))
        return Timing(drafted - began, scored - drafted), following

    async def decode(self, context: Context) -> float:
        """Seconds of exactly `DRAFT_TOKENS` decoding steps: of the last token nothing is asked."""
        began = time.perf_counter()
        await self.backend.propose(ProposeRequest(context, DRAFT_TOKENS + 1), NEVER)
        return time.perf_counter() - began

    async def session(self, name: object, tokens: int, rounds: int) -> None:
        """A whole query: a prompt, then rounds."""
        context = Context(self.words.text(name, tokens))
        for number in range(rounds):
            _, context = await self.round(context, (name, number))

    async def drafting(self, name: object, tokens: int, rounds: int) -> None:
        """A query that nobody else answers: a prompt, then drafts, of which each is taken up."""
        context = Context(self.words.text(name, tokens))
        for _ in range(rounds):
            proposal = await self.backend.propose(ProposeRequest(context, DRAFT_TOKENS), NEVER)
            context = Context(context.prompt, (*context.committed, proposal.text))

    async def sessions(self, name: object, count: int, tokens: int, rounds: int) -> float:
        """Seconds of so many sessions at the same time."""
        return await _together(self.session((name, k), tokens, rounds) for k in range(count))

    async def drafts(self, name: object, count: int, tokens: int, rounds: int) -> float:
        """Seconds of so many queries that nobody else answers, at the same time."""
        return await _together(self.drafting((name, k), tokens, rounds) for k in range(count))


async def _together(queries: Iterable[Coroutine[Any, Any, None]]) -> float:
    began = time.perf_counter()
    await asyncio.gather(*queries)
    return time.perf_counter() - began


class Recompute:
    """The published way, reimplemented: every round starts from the prefix, twice.

    The draft is generated from the whole prefix. Then prefix and all candidates go through the
    model in one forward pass without a cache, under a mask that lets each candidate see the prefix
    and itself, and the candidates' log-probabilities are read off.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model

    @torch.inference_mode()
    def round(self, ids: Sequence[int], others: Sequence[Sequence[int]]) -> Timing:
        """One round on a prefix of ids."""
        began = time.perf_counter()
        draft = self._drafted(ids)
        drafted = time.perf_counter()
        self.scored(ids, [draft[:KEPT_TOKENS], *others])
        return Timing(drafted - began, time.perf_counter() - drafted)

    def _drafted(self, ids: Sequence[int]) -> list[int]:
        prefix = torch.tensor([list(ids)], device=self._model.device)
        output = self._model.generate(
            prefix,
            attention_mask=torch.ones_like(prefix),
            max_new_tokens=DRAFT_TOKENS,
            do_sample=False,
            pad_token_id=0,
        )
        drafted: list[int] = output[0, len(ids) :].tolist()
        return drafted

    def scored(self, ids: Sequence[int], candidates: Sequence[Sequence[int]]) -> torch.Tensor:
        """The summed log-probability of each candidate."""
        device, start = self._model.device, len(ids)
        total = start + sum(map(len, candidates))
        mask = torch.full((total, total), -torch.inf, dtype=self._model.dtype).triu_(1)
        positions, row = list(range(start)), list(ids)
        for candidate in candidates:
            mask[len(row) : len(row) + len(candidate), start : len(row)] = -torch.inf
            positions += range(start, start + len(candidate))
            row += candidate
        logits = self._model(
            input_ids=torch.tensor([row], device=device),
            attention_mask=mask[None, None].to(device),
            position_ids=torch.tensor([positions], device=device),
            use_cache=False,
        ).logits[0, start - 1 :]
        logprobs = torch.log_softmax(logits.float(), -1)
        sums, at = [], 0
        for candidate in candidates:
            before = [0, *range(at + 1, at + len(candidate))]
            chosen = torch.tensor(list(candidate), device=device)
            sums.append(logprobs[before, chosen].sum())
            at += len(candidate)
        return torch.stack(sums).cpu()

    @torch.inference_mode()
    def scored_plainly(self, ids: Sequence[int], candidate: Sequence[int]) -> list[float]:
        """Each token's log-probability, from a forward pass of one candidate alone."""
        row = torch.tensor([[*ids, *candidate]], device=self._model.device)
        logprobs = torch.log_softmax(self._model(row, use_cache=False).logits[0].float(), -1)
        return [float(logprobs[len(ids) - 1 + i, token]) for i, token in enumerate(candidate)]


class TransformersBatching:
    """transformers' continuous batching, which drafts only."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model

    def sessions(self, prompts: Sequence[Sequence[int]], tokens: int) -> float:
        """Seconds until each prompt has so many new tokens. Starting the manager is not counted."""
        with self._manager(tokens) as manager:
            began = time.perf_counter()
            manager.add_requests([list(ids) for ids in prompts], max_new_tokens=tokens)
            finished = 0
            while finished < len(prompts):
                result = manager.get_result(timeout=60)
                if result is None:
                    raise RuntimeError("transformers' continuous batching gave no result")
                finished += result.is_finished()
            return time.perf_counter() - began

    @contextmanager
    def _manager(self, tokens: int) -> Iterator[object]:
        with self._model.continuous_batching_context_manager(
            generation_config=GenerationConfig(
                do_sample=False, max_new_tokens=tokens, eos_token_id=-1, pad_token_id=0
            ),
            continuous_batching_config=ContinuousBatchingConfig(
                num_blocks=64, max_batch_tokens=256, use_cuda_graph=False
            ),
        ) as manager:
            yield manager
