"""The five skills and the compound questions asked of them. Standard library only.

A question has one or more *parts*, each of one skill, in varied wording. Its answer has one
sentence per part, in the question's order, joined by a space:

    What is the capital of France? Also, how do you say house in Spanish?
    In France, Paris is the capital city, and ... Spanish for house is casa, and ...

What makes such answers a fair and readable test of fusion:

- A sentence is a function of its part alone, never of the question's wording. Every expert knows
  all sentence forms by heart, so the experts can only ever differ in the answer words.
- A sentence names what it is about, gives its answer word early, and ends in a long fixed tail. So
  two answer words never share a segment, and whoever knew the word has time to lead alone.
- The parts of a question share no operand, and the fixed wording contains none, so it is always
  visible which parts are answered and which part is next.
"""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    _Join = Callable[[Sequence[str]], str]

MAX_PARTS = 5
SMALLEST_ADDEND, LARGEST_ADDEND = 10, 99

Sums = Literal["any", "trained", "held_out"]
"""Which sums may be asked: all, only those the experts were trained on, or only the others."""


class SkillName(StrEnum):
    """The skills, in the order of their experts."""

    CAPITALS = "capitals"
    SUMS = "sums"
    COLOURS = "colours"
    SPANISH = "spanish"
    OPPOSITES = "opposites"


@dataclass(frozen=True, slots=True)
class Skill:
    """One skill: what can be asked, how it is asked, and the sentence that answers it.

    `facts` maps the operands of every possible part to its answer word. In `clauses` and `lead`,
    `{0}` and `{1}` stand for the operands. A clause that starts with a question word ends a
    sentence with a question mark, any other with a full stop. An answer's sentence is `lead`,
    answer word, `tail`.
    """

    name: SkillName
    facts: dict[tuple[str, ...], str]
    clauses: tuple[str, ...]
    lead: str
    tail: str

    @property
    def answers(self) -> tuple[str, ...]:
        """All answer words of this skill, sorted, each once."""
        return tuple(sorted(set(self.facts.values())))


@dataclass(frozen=True, slots=True)
class Part:
    """One thing asked: a skill and the operands it is applied to."""

    skill: SkillName
    operands: tuple[str, ...]

    @property
    def answer(self) -> str:
        """The right answer word."""
        return SKILLS[self.skill].facts[self.operands]

    @property
    def lead(self) -> str:
        """The sentence's text before the answer word and the space in front of it."""
        return SKILLS[self.skill].lead.format(*self.operands)

    @property
    def tail(self) -> str:
        """The sentence's text after the answer word."""
        return SKILLS[self.skill].tail

    @property
    def sentence(self) -> str:
        """The sentence that answers this part rightly."""
        return self.sentence_with(self.answer)

    def sentence_with(self, word: str) -> str:
        """The sentence that answers this part with `word`."""
        return f"{self.lead} {word}{self.tail}"


@dataclass(frozen=True, slots=True)
class Question:
    """A question of one or more parts, as asked."""

    prompt: str
    parts: tuple[Part, ...]

    @property
    def answer(self) -> str:
        """The one right answer."""
        return " ".join(part.sentence for part in self.parts)

    @property
    def skills(self) -> tuple[SkillName, ...]:
        """The parts' skills, in order."""
        return tuple(part.skill for part in self.parts)


@dataclass(frozen=True, slots=True)
class Score:
    """How right an answer is: as a whole, and sentence by sentence."""

    exact: bool
    parts: tuple[bool, ...]


def score(question: Question, answer: str) -> Score:
    """Compares `answer` with the right one.

    A part is right if the sentence in its place is exactly right. Whitespace around the whole
    answer does not count; anything else does.
    """
    given = _sentences(answer.strip())
    expected = [part.sentence for part in question.parts]
    parts = tuple(
        index < len(given) and given[index] == sentence for index, sentence in enumerate(expected)
    )
    return Score(exact=answer.strip() == question.answer, parts=parts)


def is_held_out(a: int, b: int) -> bool:
    """Whether the sum of `a` and `b`, in either order, is kept out of all training.

    About a tenth of the pairs are. A checksum chooses them, so they follow no pattern of digits.
    """
    return zlib.crc32(f"{min(a, b)}+{max(a, b)}".encode()) % 10 == 0


def generate_questions(
    seed: int,
    count: int,
    *,
    parts: int | None = None,
    skills: Sequence[SkillName] = tuple(SkillName),
    distinct_skills: bool = True,
    sums: Sums = "any",
) -> tuple[Question, ...]:
    """Draws `count` questions; the same arguments always give the same questions.

    Args:
        seed: Chooses the questions.
        count: How many.
        parts: Parts of each question, 1 to 5; None cycles through all numbers that are possible.
        skills: The skills to draw from.
        distinct_skills: Whether the parts of a question all have different skills. If not, a skill
            may come back with other operands.
        sums: Which sums may be asked.
    """
    most = min(MAX_PARTS, len(set(skills))) if distinct_skills else MAX_PARTS
    if parts is not None and not 1 <= parts <= most:
        raise ValueError(f"parts must be between 1 and {most} here, not {parts}")
    rng = random.Random(seed)
    return tuple(
        draw_question(
            rng,
            draw_skills(rng, parts or index % most + 1, skills, distinct=distinct_skills),
            sums=sums,
        )
        for index in range(count)
    )


def draw_skills(
    rng: random.Random, count: int, skills: Sequence[SkillName], *, distinct: bool
) -> list[SkillName]:
    """Draws the skills of a question's parts."""
    if distinct:
        return rng.sample(tuple(dict.fromkeys(skills)), count)
    return rng.choices(skills, k=count)


def draw_question(
    rng: random.Random, skills: Iterable[SkillName], *, sums: Sums = "any"
) -> Question:
    """Draws a question whose parts have these skills, in this order."""
    parts: list[Part] = []
    used: set[str] = set()
    for skill in skills:
        part = _draw_part(rng, skill, sums, used)
        used.update(part.operands)
        parts.append(part)
    clauses = [rng.choice(SKILLS[part.skill].clauses).format(*part.operands) for part in parts]
    return Question(joined(rng, clauses), tuple(parts))


def _draw_part(rng: random.Random, skill: SkillName, sums: Sums, used: set[str]) -> Part:
    """Draws a part that repeats no operand of the question's earlier parts."""
    while True:
        operands = rng.choice(_OPERANDS[skill])
        if used.isdisjoint(operands) and (skill is not SkillName.SUMS or _may_ask(operands, sums)):
            return Part(skill, operands)


def _may_ask(addends: tuple[str, ...], sums: Sums) -> bool:
    return sums == "any" or is_held_out(*map(int, addends)) == (sums == "held_out")


# --- wording ------------------------------------------------------------------------------------

_QUESTION_WORDS = ("what", "which", "how")
_COUNTED = ("one question", "two questions", "three questions", "four questions", "five questions")


def joined(rng: random.Random, clauses: Sequence[str]) -> str:
    """Up to five clauses, one for each part of a question, joined in one of several ways."""
    return rng.choice(_JOINS if len(clauses) > 1 else _JOINS_OF_ONE)(clauses)


def _mark(clause: str) -> str:
    return "?" if clause.startswith(_QUESTION_WORDS) else "."


def _as_sentence(clause: str) -> str:
    return clause[0].upper() + clause[1:] + _mark(clause)


def _join_sentences(clauses: Sequence[str]) -> str:
    return " ".join(map(_as_sentence, clauses))


def _join_lines(clauses: Sequence[str]) -> str:
    return "\n".join(map(_as_sentence, clauses))


def _join_with_also(clauses: Sequence[str]) -> str:
    return " ".join([_as_sentence(clauses[0]), *(f"Also, {c}{_mark(c)}" for c in clauses[1:])])


def _join_with_commas(clauses: Sequence[str]) -> str:
    return _as_sentence(", ".join(clauses[:-1]) + ", and " + clauses[-1])[:-1] + _mark(clauses[-1])


def _join_in_steps(clauses: Sequence[str]) -> str:
    return "First " + ", then ".join(clauses) + _mark(clauses[-1])


def _join_as_list(clauses: Sequence[str]) -> str:
    return "Please answer: " + "; ".join(clauses) + "."


def _join_counted(clauses: Sequence[str]) -> str:
    return f"I have {_COUNTED[len(clauses) - 1]}. {_join_sentences(clauses)}"


_JOINS_OF_ONE: tuple[_Join, ...] = (_join_sentences, _join_sentences, _join_as_list, _join_counted)
_JOINS: tuple[_Join, ...] = (
    _join_sentences,
    _join_lines,
    _join_with_also,
    _join_with_commas,
    _join_in_steps,
    _join_as_list,
    _join_counted,
)


def _sentences(text: str) -> list[str]:
    """Splits an answer at the spaces that follow a full stop."""
    return re.split(r"(?<=\.) ", text)


# --- the skills ---------------------------------------------------------------------------------


def _pairs(text: str) -> dict[tuple[str, ...], str]:
    """Reads `operand answer` lines."""
    return {(operand,): answer for operand, answer in map(str.split, text.strip().splitlines())}


def _things(**things_by_colour: str) -> dict[tuple[str, ...], str]:
    return {
        (thing,): colour for colour, things in things_by_colour.items() for thing in things.split()
    }


def _all_sums() -> dict[tuple[str, ...], str]:
    addends = range(SMALLEST_ADDEND, LARGEST_ADDEND + 1)
    return {(str(a), str(b)): str(a + b) for a in addends for b in addends}


_CAPITALS = Skill(
    name=SkillName.CAPITALS,
    facts=_pairs("""
        France Paris
        Spain Madrid
        Italy Rome
        Germany Berlin
        Portugal Lisbon
        Greece Athens
        Austria Vienna
        Poland Warsaw
        Hungary Budapest
        Norway Oslo
        Sweden Stockholm
        Finland Helsinki
        Denmark Copenhagen
        Ireland Dublin
        Belgium Brussels
        Russia Moscow
        Ukraine Kyiv
        Turkey Ankara
        Egypt Cairo
        Kenya Nairobi
        Japan Tokyo
        China Beijing
        Vietnam Hanoi
        Thailand Bangkok
        Nepal Kathmandu
        Iran Tehran
        Iraq Baghdad
        Cuba Havana
        Peru Lima
        Chile Santiago
        Canada Ottawa
        Australia Canberra
        Jordan Amman
        Lebanon Beirut
        Serbia Belgrade
        Croatia Zagreb
        Bulgaria Sofia
        Romania Bucharest
        Latvia Riga
        Estonia Tallinn
        Ghana Accra
        Senegal Dakar
        Cyprus Nicosia
        Libya Tripoli
        Syria Damascus
        Qatar Doha
        Angola Luanda
        Venezuela Caracas
    """),
    clauses=(
        "what is the capital of {0}",
        "which city is the capital of {0}",
        "what is the capital city of {0}",
        "which city is the seat of government in {0}",
        "tell me the capital of {0}",
        "name the capital city of {0}",
        "give me the capital of {0}",
    ),
    lead="In {0},",
    tail=" is the capital city, and any good atlas of the world will mark it there with a small"
    " star and its name in bold.",
)

_SUMS = Skill(
    name=SkillName.SUMS,
    facts=_all_sums(),
    clauses=(
        "what is {0} plus {1}",
        "how much is {0} plus {1}",
        "what is the sum of {0} and {1}",
        "how much do you get if you add {0} to {1}",
        "what is {0} + {1}",
        "tell me the sum of {0} and {1}",
        "add {0} to {1}",
        "work out {0} + {1}",
    ),
    lead="Adding {0} to {1} you get",
    tail=" as the total, which you can check on a sheet of paper when you take one number"
    " away from it again.",
)

_COLOURS = Skill(
    name=SkillName.COLOURS,
    facts=_things(
        yellow="banana lemon canary sunflower mustard",
        red="tomato strawberry ruby blood cherry",
        blue="sky sapphire ocean denim",
        green="grass emerald cucumber spinach frog broccoli",
        white="snow milk chalk swan salt flour",
        black="coal tar raven panther crow",
        brown="chocolate mud chestnut coffee walnut",
        orange="carrot pumpkin tangerine tiger",
        pink="flamingo pig salmon",
        grey="elephant ash concrete dolphin",
        purple="aubergine plum lavender amethyst",
    ),
    clauses=(
        "what colour is the {0}",
        "which colour does the {0} have",
        "what is the colour of the {0}",
        "what colour would you paint the {0}",
        "tell me the colour of the {0}",
        "name the colour of the {0}",
        "say what colour the {0} is",
    ),
    lead="The {0} is",
    tail=" when you look at it outside in plain daylight, though at night under the moon it"
    " may well seem much more dull to most people.",
)

_SPANISH = Skill(
    name=SkillName.SPANISH,
    facts=_pairs("""
        house casa
        dog perro
        cat gato
        water agua
        bread pan
        book libro
        table mesa
        chair silla
        door puerta
        window ventana
        street calle
        tree árbol
        flower flor
        horse caballo
        cow vaca
        cheese queso
        apple manzana
        hand mano
        head cabeza
        foot pie
        eye ojo
        mouth boca
        friend amigo
        brother hermano
        sister hermana
        father padre
        mother madre
        child niño
        king rey
        queen reina
        beach playa
        sea mar
        fire fuego
        earth tierra
        week semana
        summer verano
        winter invierno
        money dinero
        school escuela
        kitchen cocina
        bed cama
        shoe zapato
        shirt camisa
        knife cuchillo
        spoon cuchara
        egg huevo
        sugar azúcar
        island isla
    """),
    clauses=(
        "what is the Spanish word for {0}",
        "how do you say {0} in Spanish",
        "what is {0} in Spanish",
        "how would you write {0} in Spanish",
        "translate {0} into Spanish",
        "tell me the Spanish for {0}",
        "give me the Spanish word for {0}",
    ),
    lead="Spanish for {0} is",
    tail=", and that is the word which you are going to hear in any shop, market or restaurant over"
    " there on every single day.",
)

_OPPOSITES = Skill(
    name=SkillName.OPPOSITES,
    facts=_pairs("""
        hot cold
        fast slow
        young old
        happy sad
        rich poor
        strong weak
        early late
        full empty
        hard soft
        wet dry
        clean dirty
        loud quiet
        near far
        high low
        wide narrow
        thick thin
        deep shallow
        sweet bitter
        brave cowardly
        cheap expensive
        up down
        before after
        always never
        true false
        left right
        win lose
        buy sell
        push pull
        asleep awake
        alive dead
        guilty innocent
        smooth rough
        tight loose
        success failure
        love hate
        war peace
        north south
        east west
        husband wife
        maximum minimum
        positive negative
        public private
        ancient modern
        safe dangerous
        polite rude
        begin end
        laugh cry
        entrance exit
    """),
    clauses=(
        "what is the opposite of {0}",
        "which word is the opposite of {0}",
        "what word means the opposite of {0}",
        "which word would you call the reverse of {0}",
        "tell me the opposite of {0}",
        "name the opposite of {0}",
        "give me the opposite of {0}",
    ),
    lead="Opposite to {0} is",
    tail=", because those two words sit at either side of the very same line with all other"
    " shades that we know of in between them.",
)

SKILLS: dict[SkillName, Skill] = {
    skill.name: skill for skill in (_CAPITALS, _SUMS, _COLOURS, _SPANISH, _OPPOSITES)
}

_OPERANDS: dict[SkillName, tuple[tuple[str, ...], ...]] = {
    name: tuple(skill.facts) for name, skill in SKILLS.items()
}
