"""What is asked of a family, by kind. Pure: the same seed always asks the same."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from itertools import combinations, cycle, islice
from typing import Final

from specfuse.demo.skills import joined
from specfuse.families.description import Family, Part

MAX_PARTS: Final = 3
_TRIES: Final = 400
"""Draws of parts before a kind of question is held to be impossible for a family."""


class Kind(StrEnum):
    """What is hard about a question: who knows what it asks for."""

    ALONE = "alone"
    """One member knows all of it and nobody else any: it should be left alone."""
    SHARED = "shared"
    """Several members know each part."""
    SEVERAL = "several"
    """Everything is known, but no member knows all of it."""
    MID_SENTENCE = "mid-sentence"
    """Of one sentence, one member knows the first answer and another the second."""
    CONTESTED = "contested"
    """Somebody knows a part, and somebody else is as sure of something wrong."""
    UNKNOWN = "unknown"
    """Nobody knows one of the parts. Saying so is right, and stating a fact invents it."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question, as asked."""

    kind: Kind
    prompt: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class _Pools:
    """Parts to ask for, by who knows them. Nobody is wrong about those that are sole or shared."""

    sole: tuple[Part, ...]
    shared: tuple[Part, ...]
    contested: tuple[Part, ...]
    unknown: tuple[Part, ...]
    joint: tuple[Part, ...]

    @property
    def known(self) -> tuple[Part, ...]:
        return self.sole + self.shared


def kinds(family: Family) -> tuple[tuple[Kind, int], ...]:
    """The kinds of questions, with the number of parts, that a family can be asked."""
    pools = _pools(family)
    return tuple(
        (kind, parts)
        for kind in Kind
        for parts in range(1, MAX_PARTS + 1)
        if _drawn(random.Random(0), family, pools, (kind, parts)) is not None
    )


def generate(family: Family, seed: int, count: int) -> tuple[Question, ...]:
    """Draws `count` questions: every kind, with every number of parts, in turn."""
    rng = random.Random(f"questions {seed} of {family.name}")
    pools = _pools(family)
    questions = []
    for kind, count_of_parts in islice(cycle(kinds(family)), count):
        parts = None
        while parts is None:  # it is possible, and so comes with enough tries
            parts = _drawn(rng, family, pools, (kind, count_of_parts))
        questions.append(Question(kind, prompt_of(rng, family, parts), tuple(parts)))
    return tuple(questions)


def prompt_of(rng: random.Random, family: Family, parts: Sequence[Part]) -> str:
    """A question for these parts, in one of its wordings."""
    return joined(rng, [_clause(rng, family, part) for part in parts])


def _clause(rng: random.Random, family: Family, part: Part) -> str:
    if len(part.skills) == 1:
        clauses = family.skill(part.skills[0]).wording.clauses
        return rng.choice(clauses).format(part.subject)
    first, second = part.skills
    both = ("what are the {} and the {} of {}", "tell me the {} and the {} of {}")
    return rng.choice(both).format(first, second, part.subject)


def all_parts(family: Family) -> tuple[Part, ...]:
    """Every part of a single skill."""
    return tuple(
        Part(subject, (skill.name,)) for skill in family.skills for subject in skill.subjects
    )


def joint_parts(family: Family) -> tuple[Part, ...]:
    """Every part of two skills that can stand in one sentence."""
    joinable = [skill for skill in family.skills if skill.wording.joint is not None]
    return tuple(
        Part(subject, (first.name, second.name))
        for one, other in combinations(joinable, 2)
        for first, second in ((one, other), (other, one))
        for subject in first.subjects
        if subject in second.facts
    )


def _pools(family: Family) -> _Pools:
    sorted_out: dict[str, list[Part]] = {"sole": [], "shared": [], "contested": [], "unknown": []}
    for part in all_parts(family):
        sorted_out[_pool_of(family, part)].append(part)
    sole = frozenset(sorted_out["sole"])
    joint = [
        part
        for part in joint_parts(family)
        if all(Part(part.subject, (skill,)) in sole for skill in part.skills)
        and not _know_all(family, [part])
    ]
    return _Pools(**{name: tuple(parts) for name, parts in sorted_out.items()}, joint=tuple(joint))


def _pool_of(family: Family, part: Part) -> str:
    (skill,) = part.skills
    knowers = family.knowers(skill, part.subject)
    if not knowers:
        return "unknown"
    if family.misled(skill, part.subject):
        return "contested"
    return "sole" if len(knowers) == 1 else "shared"


def _know_all(family: Family, parts: Sequence[Part]) -> frozenset[str]:
    """The members who know every fact of these parts."""
    return frozenset.intersection(
        *(family.knowers(skill, part.subject) for part in parts for skill in part.skills)
    )


def _drawn(
    rng: random.Random, family: Family, pools: _Pools, cell: tuple[Kind, int]
) -> list[Part] | None:
    """Parts of a kind, about different subjects; None if many tries find none."""
    kind, count = cell
    for _ in range(_TRIES):
        parts = _PROPOSE[kind](rng, pools, count)
        distinct = parts and len({part.subject for part in parts}) == count
        if parts and distinct and _is_of_kind(family, kind, parts):
            return parts
    return None


def _is_of_kind(family: Family, kind: Kind, parts: Sequence[Part]) -> bool:
    if kind is Kind.ALONE:
        return bool(_know_all(family, parts))
    if kind is Kind.SEVERAL:
        return not _know_all(family, parts)
    return True


def _of_pool(rng: random.Random, pools: _Pools, count: int, *, name: str) -> list[Part] | None:
    """All parts from one pool."""
    pool: tuple[Part, ...] = getattr(pools, name)
    return rng.sample(pool, count) if len(pool) >= count else None


def _one_of_pool(rng: random.Random, pools: _Pools, count: int, *, name: str) -> list[Part] | None:
    """One part from a pool, at any place among known ones."""
    pool: tuple[Part, ...] = getattr(pools, name)
    if not pool or len(pools.known) < count:
        return None
    parts = [rng.choice(pool), *rng.sample(pools.known, count - 1)]
    rng.shuffle(parts)
    return parts


_PROPOSE: Final[dict[Kind, Callable[[random.Random, _Pools, int], list[Part] | None]]] = {
    Kind.ALONE: partial(_of_pool, name="sole"),
    Kind.SHARED: partial(_of_pool, name="shared"),
    Kind.SEVERAL: partial(_of_pool, name="known"),
    Kind.MID_SENTENCE: partial(_one_of_pool, name="joint"),
    Kind.CONTESTED: partial(_one_of_pool, name="contested"),
    Kind.UNKNOWN: partial(_one_of_pool, name="unknown"),
}
