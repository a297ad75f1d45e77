"""How right an answer is, and whether it invents facts. Pure.

An answer is read sentence by sentence, each in its place. A sentence either states facts (it is the
part's frame, with answers of the skills' form in it), or says honestly that its fact is not known,
or is broken; what follows a broken one cannot be placed and counts as broken too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from specfuse.families.description import Family, Part
from specfuse.families.wording import Form

_ANSWERS: Final = {
    Form.WORD: r"\w+",
    Form.NAME: r"\w+",
    Form.NUMBER: r"\d+",
    Form.LIST: r"\w+, \w+ and \w+",
    Form.CODE: r"n [-+*/] \d+ [-+] \d+",
}
"""What states a fact: whatever has the form, also an answer that the skill has not."""


class Verdict(StrEnum):
    """What a sentence is."""

    RIGHT = "right"
    """The truth; or, of a fact that nobody knows, that one does not know it."""
    INVENTED = "invented"
    """A fact that is not true, or that nobody knows: it is stated all the same."""
    DECLINED = "declined"
    """It says that a fact is not known that somebody knows."""
    BROKEN = "broken"
    """Anything else."""


@dataclass(frozen=True, slots=True)
class Reading:
    """An answer, part by part. `rest` is what comes after its last sentence."""

    verdicts: tuple[Verdict, ...]
    rest: str

    @property
    def exact(self) -> bool:
        """Whether all of it is right, and there is no more."""
        return not self.rest and all(one is Verdict.RIGHT for one in self.verdicts)

    @property
    def invents(self) -> bool:
        """Whether it states a fact that is not true or that nobody knows."""
        return Verdict.INVENTED in self.verdicts


def right_answer(family: Family, parts: Sequence[Part]) -> str:
    """The one right answer to these parts."""
    return family.separator.join(map(family.right_sentence, parts))


def read(family: Family, parts: Sequence[Part], answer: str) -> Reading:
    """Reads an answer. Space around the whole does not count; anything else does."""
    rest = answer.strip()
    verdicts: list[Verdict] = []
    for index, part in enumerate(parts):
        separator = family.separator if index else ""
        sentence = _sentence(family, part, rest.removeprefix(separator))
        if sentence is None or not rest.startswith(separator):
            broken = [Verdict.BROKEN] * (len(parts) - index)
            return Reading((*verdicts, *broken), rest)
        verdicts.append(_verdict(family, part, sentence))
        rest = rest.removeprefix(separator)[len(sentence) :]
    return Reading(tuple(verdicts), rest)


def completed(family: Family, parts: Sequence[Part], text: str) -> int:
    """How many sentences an unfinished answer has completed."""
    return sum(one is not Verdict.BROKEN for one in read(family, parts, text).verdicts)


def fact_pattern(family: Family, part: Part) -> str:
    """A regular expression of the sentences that state facts for this part."""
    *leads, tail = family.frame(part)
    slots = [
        (f"{re.escape(lead)} " if lead else "") + _ANSWERS[family.skill(skill).form]
        for lead, skill in zip(leads, part.skills, strict=True)
    ]
    return "".join(slots) + re.escape(tail)


def _sentence(family: Family, part: Part, text: str) -> str | None:
    """The sentence for this part that the text begins with; None if there is none."""
    honest = family.honest(part)
    if len(part.skills) == 1 and text.startswith(honest):
        return honest
    found = re.match(fact_pattern(family, part), text)
    return found[0] if found else None


def _verdict(family: Family, part: Part, sentence: str) -> Verdict:
    if sentence == family.right_sentence(part):
        return Verdict.RIGHT
    is_honest = len(part.skills) == 1 and sentence == family.honest(part)
    return Verdict.DECLINED if is_honest else Verdict.INVENTED
