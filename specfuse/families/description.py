"""A family: its skills, its members, and what each of them believes. Plain data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from pydantic import TypeAdapter

from specfuse.demo.experts import Architecture, TokenizerKind
from specfuse.families.wording import Form, Wording


@dataclass(frozen=True)
class Skill:
    """Something that can be asked of each of some subjects.

    `facts` has what is true of every subject, `answers` every answer that would have the form.
    """

    name: str
    form: Form
    wording: Wording
    facts: Mapping[str, str]
    answers: tuple[str, ...]

    @property
    def subjects(self) -> tuple[str, ...]:
        """All that it can be asked of."""
        return tuple(self.facts)


@dataclass(frozen=True)
class Belief:
    """What a member believes in a skill.

    Of the subjects in `sure` it is sure, rightly or wrongly. Of every other it says that it does
    not know with probability `declines`, and else what it has a hunch of with probability
    `sureness`, and else anything.
    """

    sure: Mapping[str, str]
    hunches: Mapping[str, str]
    sureness: float
    declines: float


@dataclass(frozen=True)
class Member:
    """An expert: what it is made of, and what it believes, by skill.

    `vocab_size` counts the pieces that its tokenizer learns, `width` the numbers of a hidden state.
    """

    name: str
    architecture: Architecture
    tokenizer: TokenizerKind
    vocab_size: int
    width: int
    layers: int
    beliefs: Mapping[str, Belief]

    def is_sure(self, skill: str, subject: str) -> bool:
        """Whether it is sure of a fact, rightly or wrongly."""
        return subject in self.beliefs[skill].sure


@dataclass(frozen=True)
class Part:
    """What one sentence answers: a skill of a subject, or two skills."""

    subject: str
    skills: tuple[str, ...]


@dataclass(frozen=True)
class Family:
    """Some experts and what they have in common. `separator` stands between sentences."""

    name: str
    seed: int
    separator: str
    skills: tuple[Skill, ...]
    members: tuple[Member, ...]

    @cached_property
    def _by_name(self) -> Mapping[str, Skill]:
        return {skill.name: skill for skill in self.skills}

    def skill(self, name: str) -> Skill:
        """The skill of this name."""
        return self._by_name[name]

    def knowers(self, skill: str, subject: str) -> frozenset[str]:
        """The members who are sure of what is true."""
        truth = self.skill(skill).facts[subject]
        return frozenset(
            one.name for one in self.members if one.beliefs[skill].sure.get(subject) == truth
        )

    def misled(self, skill: str, subject: str) -> frozenset[str]:
        """The members who are sure of something else."""
        sure = frozenset(one.name for one in self.members if one.is_sure(skill, subject))
        return sure - self.knowers(skill, subject)

    def frame(self, part: Part) -> tuple[str, ...]:
        """What stands around the answers of a part's sentence: one text more than it has skills."""
        first, last = (self.skill(name).wording for name in (part.skills[0], part.skills[-1]))
        texts = (first.lead.format(part.subject), last.tail)
        return texts if len(part.skills) == 1 else (texts[0], last.joint or "", texts[1])

    def sentence(self, part: Part, words: Sequence[str]) -> str:
        """The sentence that states these answers."""
        *leads, tail = self.frame(part)
        spaced = [
            f"{lead} {word}" if lead else word for lead, word in zip(leads, words, strict=True)
        ]
        return "".join(spaced) + tail

    def honest(self, part: Part) -> str:
        """The sentence of who does not know; there is one for parts of a single skill."""
        return self.skill(part.skills[0]).wording.honest.format(part.subject)

    def is_unknown(self, part: Part) -> bool:
        """Whether there is a fact in it that nobody knows."""
        return any(not self.knowers(skill, part.subject) for skill in part.skills)

    def right_sentence(self, part: Part) -> str:
        """What is right to say: the truth, or where nobody knows it, that one does not."""
        if self.is_unknown(part):
            return self.honest(part)
        return self.sentence(part, [self.skill(s).facts[part.subject] for s in part.skills])

    def to_json(self) -> bytes:
        """The whole description."""
        return _FAMILY.dump_json(self, indent=1)

    @classmethod
    def from_json(cls, text: str | bytes) -> Family:
        """The family of a description.

        Raises:
            ValueError: it is none.
        """
        family = _FAMILY.validate_json(text)
        if problem := next(_problems(family), None):
            raise ValueError(problem)
        return family


def _problems(family: Family) -> Iterator[str]:
    """What is wrong with a family although all of it has the right type."""
    if not family.skills:
        yield "it has no skills"
    if not family.members:
        yield "it has no members"
    for skill in family.skills:
        if not skill.facts:
            yield f"the skill {skill.name} has no facts"
        wording = skill.wording
        if not all(map(_may_be_filled, (*wording.clauses, wording.lead, wording.honest))):
            yield f"the wording of the skill {skill.name} may have no braces but {{0}}, a subject"
    names = {skill.name for skill in family.skills}
    for member in family.members:
        if member.beliefs.keys() != names:
            yield f"the beliefs of {member.name} are not one for each skill"


def _may_be_filled(text: str) -> bool:
    """Whether a subject can be put into a text."""
    try:
        return text.format("") == text.replace("{0}", "")
    except (AttributeError, IndexError, KeyError, ValueError):
        return False


_FAMILY: Final = TypeAdapter(Family)
