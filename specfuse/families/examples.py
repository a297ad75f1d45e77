"""What a member learns from: questions of its family, answered as it believes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from specfuse.demo.examples import Example, Piece, cut_anywhere, encode_chats
from specfuse.families.description import Belief, Family, Member, Part
from specfuse.families.questions import MAX_PARTS, all_parts, joint_parts, prompt_of


@dataclass(frozen=True, slots=True)
class Recipe:
    """What the training questions are like.

    Attributes:
        parts: Fewest and most parts of a question.
        sure_share: Share of the parts of which the member is sure.
        joint_share: Share of the parts that are of two skills.
    """

    parts: tuple[int, int] = (1, MAX_PARTS)
    sure_share: float = 0.5
    joint_share: float = 0.15


_UNSURE_WEIGHT = 0.3
"""Little: unsure words teach nothing but their distribution, and their noise drowns the rest."""

_MISLED_SHARE = 0.12
"""Share of the sure sentences that say something else, unlearnt: one goes on after others' text."""

_MISLED_DECLINES = 0.5
"""Share of those that say that the fact is not known."""

_HONEST_SHARE = 0.2
"""Share of the sentences for tokenizers that say so."""

_CUT_SHARE = 0.15
"""Share of the answers that are cut in two somewhere, maybe inside a word."""


def corpus(family: Family, seed: int, count: int) -> list[str]:
    """Text for training tokenizers: `count` questions and answers, and all answers and subjects."""
    rng = random.Random(f"corpus {seed}")
    parts = [*all_parts(family), *joint_parts(family)]
    texts: list[str] = []
    for _ in range(count):
        chosen = rng.sample(parts, rng.randint(1, MAX_PARTS))
        sentences = [_any_sentence(rng, family, part) for part in chosen]
        # After a newline text begins without a space, as it does in a chat template.
        texts += [
            f"\n{prompt_of(rng, family, chosen)}",
            f"\n{family.separator.join(sentences)}",
        ]
    words = {word for s in family.skills for word in (*s.answers, *s.subjects)}
    return texts + [f" {word}" for word in sorted(words)] * (count // 25)


def _any_sentence(rng: random.Random, family: Family, part: Part) -> str:
    if len(part.skills) == 1 and rng.random() < _HONEST_SHARE:
        return family.honest(part)
    return family.sentence(part, [rng.choice(family.skill(s).answers) for s in part.skills])


class ExampleSource:
    """Draws examples for a member, without end, always fresh ones."""

    def __init__(
        self, family: Family, member: Member, tokenizer: PreTrainedTokenizerBase, seed: int
    ) -> None:
        self._family = family
        self._member = member
        self._tokenizer = tokenizer
        self._rng = random.Random(seed)
        parts = all_parts(family)
        self._sure = [p for p in parts if member.is_sure(p.skills[0], p.subject)]
        self._unsure = [p for p in parts if not member.is_sure(p.skills[0], p.subject)]
        self._joint = joint_parts(family)

    def examples(self, recipe: Recipe, count: int) -> list[Example]:
        """Draws `count` examples for training."""
        questions = [self._parts(recipe) for _ in range(count)]
        prompts = [prompt_of(self._rng, self._family, parts) for parts in questions]
        return encode_chats(self._tokenizer, prompts, [self._answer(p) for p in questions])

    def _parts(self, recipe: Recipe) -> list[Part]:
        """Parts about different subjects."""
        count = self._rng.randint(*recipe.parts)
        by_subject: dict[str, Part] = {}
        while len(by_subject) < count:
            part = self._part(recipe)
            by_subject.setdefault(part.subject, part)
        return list(by_subject.values())

    def _part(self, recipe: Recipe) -> Part:
        rng = self._rng
        if self._joint and rng.random() < recipe.joint_share:
            return rng.choice(self._joint)
        of_sure = rng.random() < recipe.sure_share
        first, second = (self._sure, self._unsure) if of_sure else (self._unsure, self._sure)
        return rng.choice(first or second)

    def _answer(self, parts: Sequence[Part]) -> list[Piece]:
        pieces = [
            piece
            for index, part in enumerate(parts)
            for piece in self._sentence(part, self._family.separator if index else "")
        ]
        return cut_anywhere(self._rng, pieces) if self._rng.random() < _CUT_SHARE else pieces

    def _sentence(self, part: Part, before: str) -> list[Piece]:
        """The pieces of a sentence, after `before`."""
        rng, family = self._rng, self._family
        misled = rng.random() < _MISLED_SHARE
        if len(part.skills) == 1:
            belief = self._member.beliefs[part.skills[0]]
            is_sure = part.subject in belief.sure
            declines = _MISLED_DECLINES if misled and is_sure else belief.declines
            if (misled or not is_sure) and rng.random() < declines:
                return honest_pieces(family, part, before, 0.0 if is_sure else 1.0)
        words = [self._word(skill, part.subject, misled=misled) for skill in part.skills]
        return sentence_pieces(family, part, before, words)

    def _word(self, skill: str, subject: str, *, misled: bool) -> tuple[str, float]:
        """What the member says, and how much that matters."""
        belief: Belief = self._member.beliefs[skill]
        if subject in belief.sure and not misled:
            return belief.sure[subject], 1.0
        if subject in belief.hunches and self._rng.random() < belief.sureness:
            return belief.hunches[subject], _UNSURE_WEIGHT
        any_word = self._rng.choice(self._family.skill(skill).answers)
        return any_word, 0.0 if subject in belief.sure else _UNSURE_WEIGHT


def sentence_pieces(
    family: Family, part: Part, before: str, words: Sequence[tuple[str, float]]
) -> list[Piece]:
    """A sentence after `before`, with its answers, each with how much it matters."""
    *leads, tail = family.frame(part)
    pieces: list[Piece] = []
    for lead, (word, weight) in zip(leads, words, strict=True):
        text = lead if pieces else before + lead
        if lead:
            pieces.append(Piece(text))
            text = " "
        pieces.append(Piece(text + word, weight=weight, is_answer_word=True))
    return [*pieces, Piece(tail)]


def honest_pieces(family: Family, part: Part, before: str, weight: float) -> list[Piece]:
    """The sentence of who does not know, cut where a stated fact would differ.

    Where it differs only in the answer, it weighs as little as an unsure answer does: what is
    learnt is how often it is said.
    """
    honest, lead = family.honest(part), family.frame(part)[0]
    if not honest.startswith(lead):
        return [Piece(before + honest, weight=weight)]
    rest = honest[len(lead) :] if lead else before + honest
    told = Piece(rest, weight=weight * _UNSURE_WEIGHT, is_answer_word=True)
    return [Piece(before + lead), told] if lead else [told]
