"""Trains a member."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from specfuse.demo.architectures import Shape, build_model
from specfuse.demo.examples import Example, batches
from specfuse.demo.tokenizers import train_tokenizer
from specfuse.demo.training import Optimization, cooled
from specfuse.families.description import Family, Member
from specfuse.families.examples import ExampleSource, Recipe, corpus

_DRAWN_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Plan:
    """How a member is trained: from few parts to many.

    `stages` are steps, and what they take; `corpus` is how many questions and answers its tokenizer
    is trained on.
    """

    stages: tuple[tuple[int, Recipe], ...] = (
        (100, Recipe((1, 1))),
        (250, Recipe((1, 2))),
        (850, Recipe((1, 3), joint_share=0.25)),
    )
    batch_tokens: int = 768
    learning_rate: float = 4e-3
    warmup_steps: int = 60
    corpus: int = 800

    @property
    def steps(self) -> int:
        """All steps together."""
        return sum(steps for steps, _ in self.stages)

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up, then a cosine."""
        warmth = min(1.0, step / self.warmup_steps)
        return self.learning_rate * warmth * cooled(step / self.steps)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the training is; `loss` is the mean since the last report, in nats per token."""

    step: int
    loss: float


class Trainer:
    """Trains a member from nothing; `model` and `tokenizer` are the outcome."""

    def __init__(self, family: Family, member: Member, plan: Plan) -> None:
        seed = family.seed * 100 + family.members.index(member)
        torch.manual_seed(seed)
        self.plan = plan
        self._rng = random.Random(seed)
        texts = corpus(family, seed, plan.corpus)
        self.tokenizer: PreTrainedTokenizerBase = train_tokenizer(member, texts)
        shape = Shape(member.width, member.layers)
        self.model: PreTrainedModel = build_model(member.architecture, self.tokenizer, shape)
        self._source = ExampleSource(family, member, self.tokenizer, seed)

    def run(self, *, report_every: int = 50) -> Iterator[Progress]:
        """Trains to the end, telling every `report_every` steps where it is."""
        optimization = Optimization(self.model)
        losses: list[float] = []
        for step, batch in enumerate(self._batches(), start=1):
            losses.append(optimization.step(batch, self.plan.learning_rate_at(step)))
            if step % report_every == 0 or step == self.plan.steps:
                yield Progress(step, sum(losses) / len(losses))
                losses.clear()

    def _batches(self) -> Iterator[list[Example]]:
        """As many batches as there are steps, drawn by the recipe of each stage."""
        for steps, recipe in self.plan.stages:
            pool: list[list[Example]] = []
            for _ in range(steps):
                if not pool:
                    examples = self._source.examples(recipe, _DRAWN_AT_ONCE)
                    pool = batches(examples, self.plan.batch_tokens)
                    self._rng.shuffle(pool)
                yield pool.pop()
