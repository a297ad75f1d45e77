"""Measures what an expert knows: exactness in its own skill and in form, and honesty elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from specfuse.demo.examples import Example, batches, form_examples, own_examples, word_examples
from specfuse.demo.skills import MAX_PARTS, SKILLS, SkillName

_BATCH_TOKENS = 8192


@dataclass(frozen=True, slots=True)
class Report:
    """What an expert was measured to know; all shares are between 0 and 1.

    Attributes:
        own: Share of its own skill's one-part questions answered exactly.
        own_held_out: The same for sums it was never trained on; None for the other skills.
        form: By number of parts, the share of answers in which it predicts every token right but
            those of answer words, and ends after the last sentence and no sooner. The parts of a
            question all have different skills.
        form_repeating: The same where skills may come back within a question.
        honesty: By other skill, the entropy of its belief over that skill's answer words divided by
            the entropy of the uniform distribution.
    """

    own: float
    own_held_out: float | None
    form: dict[int, float]
    form_repeating: dict[int, float]
    honesty: dict[SkillName, float]


def evaluate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    skill: SkillName,
    *,
    seed: int = 1,
    count: int = 400,
) -> Report:
    """Measures an expert on `count` questions of each kind."""
    model.train(mode=False)
    own = own_examples(tokenizer, skill, seed=seed, count=count)
    held_out = own_examples(tokenizer, skill, seed=seed, count=count, sums="held_out")

    def form(*, distinct_skills: bool) -> dict[int, float]:
        shares = {}
        for parts in range(1, MAX_PARTS + 1):
            examples = form_examples(
                tokenizer, seed=seed, count=count, parts=parts, distinct_skills=distinct_skills
            )
            shares[parts] = exact_share(model, examples, but_answer_words=True)
        return shares

    return Report(
        own=exact_share(model, own),
        own_held_out=exact_share(model, held_out) if skill is SkillName.SUMS else None,
        form=form(distinct_skills=True),
        form_repeating=form(distinct_skills=False),
        honesty={
            other: honesty(model, tokenizer, other, seed=seed)
            for other in SkillName
            if other is not skill
        },
    )


def exact_share(
    model: PreTrainedModel, examples: Sequence[Example], *, but_answer_words: bool = False
) -> float:
    """The share of examples whose every token that matters is the model's most probable one.

    Because the text before each token is right by then, greedy decoding would write just the same.
    """
    exact = 0
    for batch in batches(examples, _BATCH_TOKENS):
        ids = padded([e.ids for e in batch])
        with torch.inference_mode():
            right = model(input_ids=ids[:, :-1]).logits.argmax(-1) == ids[:, 1:]
        matters = padded([e.weights for e in batch])[:, 1:] > 0
        if but_answer_words:
            matters &= ~padded([e.is_answer_word for e in batch])[:, 1:]
        exact += int((right | ~matters).all(dim=1).sum())
    return exact / len(examples)


def honesty(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    skill: SkillName,
    *,
    seed: int,
    count: int = 8,
) -> float:
    """Entropy of the model's belief over a skill's answer words, relative to the uniform one's.

    The mean over `count` questions. 1 means perfectly unsure, 0 perfectly sure.
    """
    questions = word_examples(tokenizer, skill, seed=seed, count=count)
    entropies = [_entropy(log_probabilities(model, words).softmax(0)) for words in questions]
    return sum(entropies) / len(entropies) / math.log(len(SKILLS[skill].answers))


def log_probabilities(model: PreTrainedModel, examples: Sequence[Example]) -> torch.Tensor:
    """The log-probability of the tokens that matter in each example, shape [examples]."""
    ids = padded([e.ids for e in examples])
    matters = padded([e.weights for e in examples])[:, 1:] > 0
    with torch.inference_mode():
        log_p = model(input_ids=ids[:, :-1]).logits.float().log_softmax(-1)
    of_tokens = log_p.gather(-1, ids[:, 1:, None]).squeeze(-1)
    scores: torch.Tensor = (of_tokens * matters).sum(dim=1)
    return scores


def _entropy(p: torch.Tensor) -> float:
    return float(-(p * p.clamp_min(1e-30).log()).sum())


def padded(rows: Sequence[Sequence[float]]) -> torch.Tensor:
    """A matrix of the rows, padded on the right with 0 or False, shape [rows, longest]."""
    return pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
