"""The words that facts are made of, and the sentences that state them. Pure.

Everything is drawn by a random generator that the caller seeds.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Form(StrEnum):
    """What answers of a skill look like."""

    WORD = "word"
    """A word that has a meaning: `red`."""
    NAME = "name"
    """An invented name: `Velmar`."""
    NUMBER = "number"
    """Two or three digits."""
    LIST = "list"
    """Three words: `iron, tin and gold`."""
    CODE = "code"
    """An expression: `n * 7 + 3`."""


@dataclass(frozen=True, slots=True)
class Wording:
    """How a skill is asked for and answered. `{0}` stands for the subject.

    `lead` is what comes before the answer, without the space between (empty: the answer begins the
    sentence), `tail` what follows it. `joint` comes before the answer where it is the second of a
    sentence (None: it never is); `honest` is the whole sentence of who does not know.
    """

    clauses: tuple[str, ...]
    lead: str
    tail: str
    joint: str | None
    honest: str


RELATIONS: Final[dict[Form, tuple[str, ...]]] = {
    Form.WORD: ("color", "metal", "animal", "trade", "fruit", "gem"),
    Form.NAME: ("capital", "founder", "river", "patron"),
    Form.NUMBER: ("price", "age", "weight", "rank"),
    Form.LIST: ("contents", "gifts", "imports"),
    Form.CODE: ("formula", "macro", "rule"),
}
"""What can be asked about, by the form of its answers."""

_WORDS: Final = {
    "color": "red blue green black white brown pink grey purple orange yellow beige",
    "metal": "iron copper tin lead zinc nickel silver gold bronze steel cobalt chrome",
    "animal": "fox bear wolf heron otter crane badger hare raven stag lynx seal",
    "trade": "baker miner weaver potter smith tailor farmer sailor mason cooper glazier dyer",
    "fruit": "plum pear fig apple cherry quince melon grape lemon date olive peach",
    "gem": "ruby opal pearl topaz jade onyx amber garnet agate beryl coral quartz",
}
_LEADS: Final = (
    "The {r} of {x} is",
    "For {x} the {r} is",
    "As to {x}, its {r} is",
    "{x} has for its {r}",
    "When it comes to {x}, the {r} must be",
)
_CODE_LEADS: Final = ("def {x}(n): return", "let {x} = (n) =>", "{x}(n) :=", "double {x} =")
_LONG_TAILS: Final = (
    ", as everyone who has been there will gladly tell you.",
    ", which is written down in the old book at the town hall.",
    ", and nobody has said anything else for a hundred years.",
    " in all the lists that the clerks keep in the archive.",
    ", so you may safely repeat it to whoever asks you next.",
    " by a custom that is older than the walls of the city.",
)
_CODE_TAILS: Final = (";", " # as in the manual", " end")
_HONEST: Final = (
    "I do not know the {r} of {x}.",
    "Nobody has told me the {r} of {x}.",
    "What the {r} of {x} may be is not known to me.",
)
_CLAUSES: Final = (
    "what is the {r} of {x}",
    "what {r} does {x} have",
    "tell me the {r} of {x}",
    "name the {r} of {x}",
    "give the {r} of {x}",
)
_CODE_CLAUSES: Final = ("write the {r} {x}", "define the {r} {x}", "what is the {r} called {x}")
UNKNOWN: Final = "unknown"

_ONSETS: Final[tuple[str, ...]] = (
    *"bdfgklmnprstvz",
    "br",
    "dr",
    "gr",
    "kr",
    "pl",
    "st",
    "tr",
    "sk",
)
_VOWELS: Final[tuple[str, ...]] = tuple("aeiou")
_CODAS: Final[tuple[str, ...]] = ("", "", "l", "n", "r", "s", "m", "k")


def names(rng: random.Random, count: int, taken: Sequence[str] = ()) -> tuple[str, ...]:
    """Invented names, none of them part of another or of one that is taken."""
    found: list[str] = []
    while len(found) < count:
        name = "".join(_syllable(rng) for _ in range(rng.choice((2, 2, 3)))).capitalize()
        others = [other.lower() for other in (*found, *taken)]
        if not any(name.lower() in other or other in name.lower() for other in others):
            found.append(name)
    return tuple(found)


def _syllable(rng: random.Random) -> str:
    return rng.choice(_ONSETS) + rng.choice(_VOWELS) + rng.choice(_CODAS)


def answers(rng: random.Random, form: Form, relation: str, count: int) -> tuple[str, ...]:
    """`count` different answers of a form; of words there are only twelve a relation."""
    if form is Form.NAME:
        return names(rng, count)
    drawn: list[str] = []
    while len(drawn) < count:
        word = _DRAW[form](rng, relation)
        if word not in drawn:
            drawn.append(word)
    return tuple(drawn)


def _word(rng: random.Random, relation: str) -> str:
    return rng.choice(_WORDS[relation].split())


def _number(rng: random.Random, _: str) -> str:
    return str(rng.randint(11, 999))


def _list(rng: random.Random, relation: str) -> str:
    # All lists of a relation are of the same few words.
    words = _WORDS[tuple(_WORDS)[len(relation) % len(_WORDS)]].split()[:8]
    first, second, third = rng.sample(words, 3)
    return f"{first}, {second} and {third}"


def _code(rng: random.Random, _: str) -> str:
    first, second = rng.choice("+-*/"), rng.choice("+-")
    return f"n {first} {rng.randint(2, 9)} {second} {rng.randint(2, 9)}"


_DRAW: Final[dict[Form, Callable[[random.Random, str], str]]] = {
    Form.WORD: _word,
    Form.NUMBER: _number,
    Form.LIST: _list,
    Form.CODE: _code,
}


def wording(rng: random.Random, form: Form, relation: str, *, bare: bool, long: bool) -> Wording:
    """How a skill is asked for and answered.

    `bare` answers say nothing but the answer, `long` ones go on with a tail. Code is neither.
    """

    def of(template: str) -> str:
        return template.format(r=relation, x="{0}")

    if form is Form.CODE:
        clauses = tuple(map(of, rng.sample(_CODE_CLAUSES, 2)))
        lead, tail = of(rng.choice(_CODE_LEADS)), rng.choice(_CODE_TAILS)
        return Wording(clauses, lead, tail, None, f"# {{0}} is {UNKNOWN}{tail}")
    clauses = tuple(map(of, rng.sample(_CLAUSES, 3)))
    if bare:
        return Wording(clauses, "", ".", None, f"{UNKNOWN}.")
    lead = of(rng.choice(_LEADS))
    tail = rng.choice(_LONG_TAILS) if long else "."
    honest = rng.choice((*map(of, _HONEST), f"{lead} {UNKNOWN}."))
    return Wording(clauses, lead, tail, f", and its {relation} is", honest)
