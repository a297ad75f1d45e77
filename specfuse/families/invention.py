"""A family from a seed. Pure: the same seed always gives the same family."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from specfuse.demo.experts import Architecture, TokenizerKind
from specfuse.families import wording
from specfuse.families.description import Belief, Family, Member, Skill
from specfuse.families.wording import RELATIONS, Form

MIN_MEMBERS, MAX_MEMBERS = 2, 6
_SUBJECTS: Final = (14, 18)
_ANSWERS: Final = (8, 12)
_MEMBER_NAMES: Final = (
    *("alder", "birch", "cedar", "elm", "hazel", "juniper"),
    *("larch", "maple", "oak", "pine", "rowan", "willow"),
)
_FAMILY_NAMES: Final = (
    *("amber", "basalt", "coral", "dune", "ember", "fjord"),
    *("grove", "heath", "islet", "jetty", "knoll", "lagoon"),
)
_BARE_SHARE: Final = 0.2
"""Share of the skills whose answers say nothing but the answer, where that is possible."""
_LONG_SHARE: Final = 0.5
"""Share of the skills whose answers go on with a tail."""
_JOINABLE: Final = (Form.WORD, Form.NAME, Form.NUMBER)
_SURENESS: Final = (0.0, 0.3, 0.6, 0.9)
"""From honestly unsure to nearly always the same."""
_VOCABULARIES: Final = {
    TokenizerKind.BYTE_BPE: (560, 760, 960),
    TokenizerKind.BYTE_BPE_DIGITS: (560, 760, 960),
    TokenizerKind.UNIGRAM: (360, 560, 760),  # and all bytes
    TokenizerKind.WORDPIECE: (820, 960, 1120),  # of which all bytes, twice
}
_ANY: Final = (TokenizerKind.BYTE_BPE, TokenizerKind.BYTE_BPE_DIGITS, TokenizerKind.UNIGRAM)
_TOKENIZERS: Final = {
    Architecture.LLAMA: _ANY,
    Architecture.GRANITE: _ANY,
    Architecture.GPT_NEOX: _ANY,
    # WordPiece needs a token for what is unknown, and only these have one.
    Architecture.GEMMA2: (*_ANY, TokenizerKind.WORDPIECE),
    Architecture.MISTRAL: (*_ANY, TokenizerKind.WORDPIECE),
}
_SHAPES: Final = ((64, 3), (64, 4), (96, 3))


@dataclass(frozen=True, slots=True)
class _Role:
    """What a skill is for, in the family: who owns it, who else knows it, who is wrong about it."""

    owners: tuple[int, ...]
    rival: int | None = None
    share: float = 1.0


def invent(seed: int) -> Family:
    """The family of a seed: two to six members, their skills, and what they believe."""
    rng = random.Random(f"family {seed}")
    size = rng.randint(MIN_MEMBERS, MAX_MEMBERS)
    roles = _roles(rng, size)
    skills = _skills(rng, len(roles))
    declines = [_declines(rng, index, size) for index in range(size)]
    wrong = [_wrong(rng, skill, role) for skill, role in zip(skills, roles, strict=True)]
    names = rng.sample(_MEMBER_NAMES, size)
    members = []
    for index, name in enumerate(names):
        beliefs = {
            skill.name: _belief(
                rng, skill, _sure(rng, index, skill, role, mistakes), declines[index]
            )
            for skill, role, mistakes in zip(skills, roles, wrong, strict=True)
        }
        members.append(_member(rng, name, beliefs))
    return Family(
        name=f"{rng.choice(_FAMILY_NAMES)}-{seed}",
        seed=seed,
        separator=rng.choice((" ", " ", "\n")),
        skills=skills,
        members=tuple(members),
    )


def _roles(rng: random.Random, size: int) -> tuple[_Role, ...]:
    """A skill for each member, one that several share, one that nobody has; and who is wrong."""
    rivals = rng.sample(range(size), rng.randint(1, max(1, size // 2)))
    owned = []
    for owner in range(size):
        rival = rng.choice([other for other in range(size) if other != owner])
        is_contested = owner in rivals
        share = rng.choice((1.0, 0.75))
        owned.append(_Role((owner,), rival if is_contested else None, share))
    sharing = rng.sample(range(size), min(size, rng.choice((2, 2, 3))))
    others = [index for index in range(size) if index not in sharing]
    shared = _Role(tuple(sharing), rng.choice(others) if others else None)
    return (*owned, shared, _Role(()))


def _skills(rng: random.Random, count: int) -> tuple[Skill, ...]:
    """Skills of different relations, of two kinds of subjects.

    The first two, which have different owners, can stand in one sentence.
    """
    first = wording.names(rng, rng.randint(*_SUBJECTS))
    subjects = (first, wording.names(rng, rng.randint(*_SUBJECTS), taken=first))
    relations = [(form, relation) for form, known in RELATIONS.items() for relation in known]
    joinable = rng.sample([one for one in relations if one[0] in _JOINABLE], 2)
    rest = _varied(rng, [one for one in relations if one not in joinable])
    return tuple(
        _skill(rng, form, relation, subjects[index // 2 % 2], may_be_bare=index > 1)
        for index, (form, relation) in enumerate([*joinable, *rest][:count])
    )


def _varied(rng: random.Random, relations: Sequence[tuple[Form, str]]) -> list[tuple[Form, str]]:
    """Shuffled, but one of each form before all others."""
    shuffled = rng.sample(relations, len(relations))
    distinct = {form: (form, relation) for form, relation in shuffled}
    firsts = rng.sample(list(distinct.values()), len(distinct))
    return [*firsts, *(one for one in shuffled if one not in firsts)]


def _skill(
    rng: random.Random, form: Form, relation: str, subjects: Sequence[str], *, may_be_bare: bool
) -> Skill:
    answers = wording.answers(rng, form, relation, rng.randint(*_ANSWERS))
    bare = may_be_bare and rng.random() < _BARE_SHARE
    long = rng.random() < _LONG_SHARE
    return Skill(
        name=relation,
        form=form,
        wording=wording.wording(rng, form, relation, bare=bare, long=long),
        facts={subject: rng.choice(answers) for subject in subjects},
        answers=answers,
    )


def _declines(rng: random.Random, index: int, size: int) -> float:
    """How often a member says that it does not know: the first mostly, the last never."""
    if index == 0:
        return rng.choice((0.7, 0.9))
    return 0.0 if index == size - 1 else rng.choice((0.0, 0.2, 0.4, 0.7))


def _wrong(rng: random.Random, skill: Skill, role: _Role) -> dict[str, str]:
    """What the skill's rival is sure of, of some of the subjects: never the truth."""
    if role.rival is None:
        return {}
    subjects = rng.sample(skill.subjects, len(skill.subjects) // 2)
    return {one: _other(rng, skill, skill.facts[one]) for one in subjects}


def _other(rng: random.Random, skill: Skill, truth: str) -> str:
    return rng.choice([answer for answer in skill.answers if answer != truth])


def _sure(
    rng: random.Random, index: int, skill: Skill, role: _Role, mistakes: Mapping[str, str]
) -> dict[str, str]:
    """What a member is sure of in a skill."""
    if index in role.owners:
        known = rng.sample(skill.subjects, round(len(skill.subjects) * role.share))
        return {subject: skill.facts[subject] for subject in known}
    return dict(mistakes) if index == role.rival else {}


def _belief(rng: random.Random, skill: Skill, sure: Mapping[str, str], declines: float) -> Belief:
    favourites = rng.sample(skill.answers, rng.choice((1, 2, 3)))
    hunches = {one: rng.choice(favourites) for one in skill.subjects if one not in sure}
    return Belief(sure, hunches, rng.choice(_SURENESS), declines)


def _member(rng: random.Random, name: str, beliefs: Mapping[str, Belief]) -> Member:
    architecture = rng.choice(list(Architecture))
    tokenizer = rng.choice(_TOKENIZERS[architecture])
    width, layers = rng.choice(_SHAPES)
    return Member(
        name=name,
        architecture=architecture,
        tokenizer=tokenizer,
        vocab_size=rng.choice(_VOCABULARIES[tokenizer]),
        width=width,
        layers=layers,
        beliefs=beliefs,
    )
