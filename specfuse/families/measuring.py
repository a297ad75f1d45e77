"""Measures what a member has learnt, beside what its family says that it believes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from specfuse.demo.evaluation import exact_share, log_probabilities
from specfuse.demo.examples import Example, Piece, encode_chats
from specfuse.families.description import Family, Member, Part
from specfuse.families.examples import sentence_pieces
from specfuse.families.questions import MAX_PARTS, all_parts, joint_parts, prompt_of

_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Measured:
    """What a member was measured to do; everything is a share or a probability.

    Attributes:
        own: Share of the facts that it is sure of, rightly or wrongly, that it states so.
        form: Share of answers of as many parts as there can be, about anything, in which it
            predicts everything right but answers, and the first word of a sentence, by which one
            may decline.
        declines: Mean probability of saying that it does not know, where it is not sure.
        declines_said: The same as the family says.
        hunch: Mean probability of its hunch, where it is not sure but states a fact.
        hunch_said: The same as the family says.
    """

    own: float
    form: float
    declines: float
    declines_said: float
    hunch: float
    hunch_said: float


def measure(
    family: Family,
    member: Member,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    count: int = 150,
) -> Measured:
    """Measures a member on `count` questions of each kind."""
    model.train(mode=False)
    rng = random.Random(family.seed)
    asked = _Asked(family, tokenizer, rng)
    parts = all_parts(family)
    sure = [p for p in parts if member.is_sure(p.skills[0], p.subject)][:count]
    unsure = [p for p in parts if not member.is_sure(p.skills[0], p.subject)]
    unsure = rng.sample(unsure, min(count, len(unsure)))
    beliefs = [(p, member.beliefs[p.skills[0]]) for p in unsure]
    hunches = [asked.word(part, belief.hunches[part.subject]) for part, belief in beliefs]
    honest = [asked.honest(part) for part in unsure]
    return Measured(
        own=exact_share(model, [asked.sure(part, member) for part in sure]),
        form=exact_share(model, [asked.form() for _ in range(count)], but_answer_words=True),
        declines=_mean_probability(model, honest),
        declines_said=_mean([belief.declines for _, belief in beliefs]),
        hunch=_mean_probability(model, hunches),
        hunch_said=_mean(
            [_probability_said(family, member, part) for part in unsure],
        ),
    )


class _Asked:
    """Makes examples of questions that are asked in any wording."""

    def __init__(
        self, family: Family, tokenizer: PreTrainedTokenizerBase, rng: random.Random
    ) -> None:
        self._family = family
        self._tokenizer = tokenizer
        self._rng = rng

    def answered(self, parts: Sequence[Part], pieces: Sequence[Piece], *, ended: bool) -> Example:
        prompt = prompt_of(self._rng, self._family, parts)
        (example,) = encode_chats(self._tokenizer, [prompt], [pieces], ended=ended)
        return example

    def word(self, part: Part, word: str) -> Example:
        """A part's fact up to the answer, which alone matters."""
        *leads, answer, _ = sentence_pieces(self._family, part, "", [(word, 1.0)])
        unweighed = [replace(lead, weight=0.0) for lead in leads]
        return self.answered([part], [*unweighed, answer], ended=False)

    def honest(self, part: Part) -> Example:
        """A part's sentence of who does not know."""
        return self.answered([part], [Piece(self._family.honest(part))], ended=False)

    def sure(self, part: Part, member: Member) -> Example:
        word = member.beliefs[part.skills[0]].sure[part.subject]
        pieces = sentence_pieces(self._family, part, "", [(word, 1.0)])
        return self.answered([part], pieces, ended=True)

    def form(self) -> Example:
        """Facts about anything, true or not, the first words of sentences counted as answers."""
        family = self._family
        pool = [*all_parts(family), *joint_parts(family)]
        by_subject: dict[str, Part] = {}
        while len(by_subject) < MAX_PARTS:
            part = self._rng.choice(pool)
            by_subject.setdefault(part.subject, part)
        parts = list(by_subject.values())
        pieces: list[Piece] = []
        for index, part in enumerate(parts):
            words = [(self._rng.choice(family.skill(s).answers), 1.0) for s in part.skills]
            before = family.separator if index else ""
            first, *rest = sentence_pieces(family, part, before, words)
            pieces += [*_first_word(first, before), *rest]
        return self.answered(parts, pieces, ended=True)


def _first_word(piece: Piece, before: str) -> list[Piece]:
    """A sentence's first piece with its first word on its own, as if that were an answer."""
    end = piece.text.find(" ", len(before))
    if end < 0 or piece.is_answer_word:
        return [replace(piece, is_answer_word=True)]
    return [Piece(piece.text[:end], is_answer_word=True), Piece(piece.text[end:])]


def _probability_said(family: Family, member: Member, part: Part) -> float:
    """Of its hunch, where a fact is stated, as the family says."""
    (skill,) = part.skills
    belief = member.beliefs[skill]
    by_chance = (1 - belief.sureness) / len(family.skill(skill).answers)
    lead = family.frame(part)[0]
    stated = 1 - belief.declines if family.honest(part).startswith(lead) else 1.0
    return (belief.sureness + by_chance) * stated


def _mean_probability(model: PreTrainedModel, examples: Sequence[Example]) -> float:
    found = [
        log_probabilities(model, examples[at : at + _AT_ONCE])
        for at in range(0, len(examples), _AT_ONCE)
    ]
    return float(torch.cat(found).exp().mean()) if found else 0.0


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
