"""Experts of the demo's questions without weights: what such a model would say and believe.

A simulated expert knows the form of every answer and the answer words of one skill. Among the other
skills' words it is unsure, all of them being alike to it. So whole queries over real rounds take
milliseconds, and a test can ask hundreds.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from fuser_service.core.rules import Rules
from fuser_service.core.types import (
    Candidate,
    Context,
    Departure,
    Evidence,
    Proposal,
    Score,
    SegmentFinish,
)
from fuser_service.fusion.events import Event, Finished, RoundCommitted
from fuser_service.fusion.query import Query
from fuser_service.fusion.runner import Fusion
from specfuse.deadline import Deadline
from specfuse.demo.skills import SKILLS, Part, Question, SkillName, score
from tests.support.members import RecordingObserver, ScriptedMember

SURE, UNSURE = 0.995, 1e-4
"""What a member that knows what comes next gives it, and any other word."""
END = ""
"""Comes after the last word of an answer."""


def words_of(text: str) -> list[str]:
    """The words and marks of a text, each with the space in front of it."""
    return re.findall(r"\s*\w+|\s*[^\w\s]", text)


def whole_words(_: str) -> int:
    """A large vocabulary has every word as one token."""
    return 1


def long_words_in_two(word: str) -> int:
    """A vocabulary of a few tens of thousands has the frequent words only."""
    return 1 if len(word.strip()) <= 6 else 2


@dataclass(frozen=True, slots=True)
class Slot:
    """Where the answer word of a part belongs."""

    part: Part


def template_of(question: Question) -> list[str | Slot]:
    """The words of the answer in their order, its answer words left open, and the end."""
    words: list[str | Slot] = []
    for index, part in enumerate(question.parts):
        words += words_of(f"{' ' if index else ''}{part.lead}")
        words.append(Slot(part))
        words += words_of(part.tail)
    return [*words, END]


@dataclass(frozen=True, slots=True)
class Doubt:
    """What a member makes of a word that begins at byte `at`; the other numbers are nats."""

    at: int
    logprob: float
    regret: float
    entropy: float


class SimulatedExpert:
    """Proposes and judges as an expert of `skill`; `pieces` is how its tokenizer cuts a word."""

    def __init__(
        self,
        skill: SkillName | None,
        questions: dict[str, Question],
        pieces: Callable[[str], int] = whole_words,
    ) -> None:
        self._skill = skill
        self._templates = {prompt: template_of(q) for prompt, q in questions.items()}
        self._pieces = pieces

    def propose(self, context: Context, max_tokens: int = 10) -> Proposal:
        template = self._template(context)
        said = words_of("".join(context.committed))
        text, tokens = "", 0
        if not _fits(said, template):
            return Proposal("", SegmentFinish.LENGTH, 0)
        for slot in template[len(said) :]:
            word = self.word_for(slot) if isinstance(slot, Slot) else slot
            if word == END:
                return Proposal(text, SegmentFinish.END, tokens)
            if tokens + self._pieces(word) > max_tokens and text:
                break
            text, tokens = text + word, tokens + min(self._pieces(word), max_tokens)
        return Proposal(text, SegmentFinish.LENGTH, tokens)

    def judge(self, context: Context, candidate: Candidate) -> Score:
        template = self._template(context)
        said = words_of("".join(context.committed))
        given = words_of(candidate.text)
        logs: list[float] = []
        doubts: list[Doubt] = []
        for index, word in enumerate([*given, *([END] if candidate.finished else [])]):
            fits = _fits(said + given[:index], template)
            expected = template[len(said) + index] if fits else None
            p = self.belief(expected, word)
            logs += [math.log(p), *[math.log(SURE)] * (self._pieces(word or ".") - 1)]
            best, entropy = self.certainty(expected)
            at = len("".join(given[:index]).encode())
            doubts.append(Doubt(at, math.log(p), max(0.0, math.log(best / p)), entropy))
        mean = math.fsum(map(math.exp, logs)) / len(logs)
        size = len(candidate.text.encode())
        return Score(math.fsum(logs), mean, len(logs), size, _evidence(doubts))

    def belief(self, expected: str | Slot | None, word: str) -> float:
        """How probable it finds `word` where `expected` belongs; None is anywhere else."""
        if isinstance(expected, Slot):
            answers = SKILLS[expected.part.skill].answers
            if expected.part.skill is self._skill:
                return 0.95 if word == f" {expected.part.answer}" else UNSURE
            return 1 / len(answers) if word.strip() in answers else UNSURE
        return SURE if word == expected else UNSURE

    def certainty(self, expected: str | Slot | None) -> tuple[float, float]:
        """How probable what it would write there is, and the entropy of all that it might, nats."""
        if isinstance(expected, Slot):
            count = len(SKILLS[expected.part.skill].answers)
            own = expected.part.skill is self._skill
            return (0.95, 0.05 * math.log(count)) if own else (1 / count, math.log(count))
        return (SURE, 0.05) if expected is not None else (UNSURE, -math.log(UNSURE))

    def word_for(self, slot: Slot) -> str:
        """What it would write there: the answer word, or any word of that skill."""
        if slot.part.skill is self._skill:
            return f" {slot.part.answer}"
        seeded = random.Random(f"{self._skill}{slot.part}")
        return f" {seeded.choice(SKILLS[slot.part.skill].answers)}"

    def _template(self, context: Context) -> list[str | Slot]:
        return self._templates[str(context.prompt)]


class Liar(SimulatedExpert):
    """Knows the form, and is as sure as can be of a wrong answer word in every skill."""

    def belief(self, expected: str | Slot | None, word: str) -> float:
        if isinstance(expected, Slot):
            return 0.999 if word == self.word_for(expected) else UNSURE
        return super().belief(expected, word)

    def certainty(self, expected: str | Slot | None) -> tuple[float, float]:
        return (0.999, 0.01) if isinstance(expected, Slot) else super().certainty(expected)

    def word_for(self, slot: Slot) -> str:
        wrong = [word for word in SKILLS[slot.part.skill].answers if word != slot.part.answer]
        return f" {random.Random(str(slot.part)).choice(wrong)}"


class Noise(SimulatedExpert):
    """Random weights: writes any word, finds every word equally improbable, never ends."""

    def propose(self, context: Context, max_tokens: int = 10) -> Proposal:
        seeded = random.Random("".join(context.committed))
        text = "".join(f" {seeded.choice(SKILLS[SkillName.OPPOSITES].answers)}" for _ in range(7))
        return Proposal(text, SegmentFinish.LENGTH, max_tokens)

    def belief(self, expected: str | Slot | None, word: str) -> float:
        return 1 / 1500

    def certainty(self, expected: str | Slot | None) -> tuple[float, float]:
        return 1 / 1500, math.log(1500)


class Parrot(SimulatedExpert):
    """Says the same wrong sentence whatever it is asked, and is as sure as can be of it."""

    SENTENCE = "The one answer to all that you ask is certainly seven."

    def __init__(self, questions: dict[str, Question]) -> None:
        super().__init__(None, questions)
        same = [*words_of(self.SENTENCE), END]
        self._templates = dict.fromkeys(questions, same)

    def propose(self, context: Context, max_tokens: int = 10) -> Proposal:
        own = super().propose(context, max_tokens)
        return own if own.text else Proposal(self.SENTENCE, SegmentFinish.END, max_tokens)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a question went: whether exactly, who won and left in which round, and the calls."""

    exact: bool
    winners: tuple[str, ...]
    left: tuple[tuple[Departure, ...], ...]
    calls: tuple[int, int]
    active: tuple[int, ...]


def asked(questions: Iterable[Question]) -> dict[str, Question]:
    """The questions by their prompts."""
    return {question.prompt: question for question in questions}


def experts(
    questions: dict[str, Question], pieces: Sequence[Callable[[str], int]] = (whole_words,)
) -> dict[str, SimulatedExpert]:
    """An expert of each skill; their tokenizers are `pieces` in turn."""
    return {
        skill.value: SimulatedExpert(skill, questions, pieces[index % len(pieces)])
        for index, skill in enumerate(SkillName)
    }


async def outcomes(
    ensemble: dict[str, SimulatedExpert], questions: dict[str, Question], **rules: object
) -> list[Outcome]:
    """Asks the ensemble every question, over real rounds."""
    fusion = Fusion(
        {
            name: ScriptedMember(name, proposes=one.propose, judges=one.judge)
            for name, one in ensemble.items()
        },
        RecordingObserver(),
    )
    settled = Rules(members=tuple(ensemble), max_tokens=400, **rules)  # type: ignore[arg-type]
    return [
        _outcome(
            question,
            [
                event
                async for event in fusion.run(
                    Query("all", settled, prompt, session_id=""), Deadline.after(60)
                )
            ],
        )
        for prompt, question in questions.items()
    ]


def exact_share(results: Sequence[Outcome]) -> float:
    """The share of questions answered exactly."""
    return sum(result.exact for result in results) / len(results)


def _outcome(question: Question, events: list[Event]) -> Outcome:
    rounds = [event.round for event in events if isinstance(event, RoundCommitted)]
    finished = events[-1]
    assert isinstance(finished, Finished)
    text = "".join(one.text for one in rounds) + finished.text
    made = finished.propose_made + finished.score_made
    return Outcome(
        score(question, text).exact,
        tuple(one.winner for one in rounds),
        tuple(one.left for one in rounds),
        (made, finished.propose_avoided + finished.score_avoided),
        tuple(len(one.took_part) for one in rounds),
    )


def _evidence(doubts: Sequence[Doubt]) -> Evidence | None:
    """What these come to; None if there are none."""
    if not doubts:
        return None
    worst = max(doubts, key=lambda doubt: doubt.regret)
    weakest = min(doubts, key=lambda doubt: doubt.logprob)
    regrets = math.fsum(doubt.regret for doubt in doubts)
    return Evidence(regrets, worst.regret, worst.at, worst.entropy, weakest.logprob, weakest.at)


def _fits(said: list[str], template: list[str | Slot]) -> bool:
    """Whether the words said so far are such an answer's beginning, whatever its answer words."""
    return len(said) < len(template) and all(
        isinstance(expected, Slot) or word == expected
        for word, expected in zip(said, template, strict=False)
    )
