"""What is asked, and what is right."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol

from specfuse.demo.skills import MAX_PARTS, Part, Question, generate_questions, score
from specfuse.errors import Misconfigured

COMPOUND: Final = "compound"


class ErrorKind(StrEnum):
    """What is wrong with an answer."""

    WORD = "word"
    """The form is right, and some answer word wrong."""
    DECLINED = "declined"
    """Right, but that it says not to know what somebody knows."""
    STOPPED = "stopped"
    """Right as far as it goes: it ended too early."""
    RAN_ON = "ran_on"
    """Right, and then it went on."""
    FORM = "form"
    """Anything else: a part left out, repeated or out of place, or a broken sentence."""


@dataclass(frozen=True, slots=True)
class Case:
    """One question of a suite. `id` is unique in the suite; `parts` are at least 1.

    `kind` says what is hard about it, where the suite tells its questions apart by that.
    """

    id: str
    prompt: str
    answer: str
    parts: int
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """How right an answer is: as a whole, and part by part. `error` is None if it is right.

    `invents` says whether it states a fact that is not true or that nobody knows, where the suite
    can tell that from other mistakes.
    """

    exact: bool
    parts: tuple[bool, ...]
    error: ErrorKind | None
    invents: bool = False


class Suite(Protocol):
    """Questions, and which answers are right."""

    @property
    def name(self) -> str:
        """Says which questions these are, whatever their number."""

    @property
    def cases(self) -> Sequence[Case]:
        """The questions. A larger suite begins with the same ones."""

    def mark(self, case: Case, text: str) -> Mark:
        """How right `text` is as the answer."""

    def skill_at(self, case: Case, before: str) -> str:
        """The skill of the part that is being answered after the text `before`; empty if none."""


# --- compound -------------------------------------------------------------------------------------


class CompoundSuite:
    """Generated questions of the demo's skills, with 1 to 5 parts in turn."""

    name = COMPOUND

    def __init__(self, seed: int, count: int) -> None:
        """`count` questions, chosen by `seed`."""
        each = -(-count // MAX_PARTS)
        by_parts = [
            generate_questions(seed * MAX_PARTS + parts, each, parts=parts)
            for parts in range(1, MAX_PARTS + 1)
        ]
        # One of each number of parts after the other: half a run is half of every kind.
        questions = [question for group in zip(*by_parts, strict=True) for question in group]
        self._questions = {
            f"{len(question.parts)}-{index // MAX_PARTS}": question
            for index, question in enumerate(questions[:count])
        }
        self.cases = tuple(
            Case(id_, question.prompt, question.answer, len(question.parts))
            for id_, question in self._questions.items()
        )

    def mark(self, case: Case, text: str) -> Mark:
        """Exactly right, sentence by sentence; space around the whole is ignored."""
        question = self._questions[case.id]
        given = score(question, text)
        return Mark(given.exact, given.parts, None if given.exact else _error(question, text))

    def skill_at(self, case: Case, before: str) -> str:
        """By the sentences that `before` has completed."""
        parts = self._questions[case.id].parts
        completed = len([s for s in before.strip().split(". ") if s])
        if completed and not before.rstrip().endswith("."):
            completed -= 1
        return parts[completed].skill.value if completed < len(parts) else ""


def _error(question: Question, text: str) -> ErrorKind:
    given, right = text.strip(), question.answer
    if right.startswith(given):
        return ErrorKind.STOPPED
    if given.startswith(right):
        return ErrorKind.RAN_ON
    sentences = given.removesuffix(".").split(". ")
    if len(sentences) == len(question.parts) and all(
        _has_form(part, f"{sentence}.")
        for part, sentence in zip(question.parts, sentences, strict=True)
    ):
        return ErrorKind.WORD
    return ErrorKind.FORM


def _has_form(part: Part, sentence: str) -> bool:
    """Whether the sentence is the part's, whatever the answer word."""
    word = sentence.removeprefix(f"{part.lead} ").removesuffix(part.tail)
    return sentence == part.sentence_with(word) and " " not in word


# --- files ----------------------------------------------------------------------------------------


class Match(StrEnum):
    """When an answer is right."""

    EXACT = "exact"
    """It is the expected one, apart from space around it."""
    CONTAINS = "contains"
    """The expected one occurs in it."""


class FileSuite:
    """Questions from a file with a JSON object `{"prompt": ..., "answer": ...}` on each line."""

    def __init__(self, path: Path, match: Match, count: int | None = None) -> None:
        """The first `count` questions of the file, or all.

        Raises:
            Misconfigured: the file cannot be read, or a line is not such an object.
        """
        try:
            content = path.read_bytes()
            lines = content.decode("utf-8-sig").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise Misconfigured(f"{path}: cannot be read: {error}") from error
        digest = hashlib.sha256(content).hexdigest()[:8]
        self.name = f"{path.name}@{digest}:{match}"
        self._match = match
        numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
        self.cases = tuple(_case(path, number, line) for number, line in numbered[:count])
        if not self.cases:
            raise Misconfigured(f"{path}: no questions; a line is like {_EXAMPLE}")

    def mark(self, case: Case, text: str) -> Mark:
        """By the suite's way of matching."""
        right = (
            text.strip() == case.answer.strip()
            if self._match is Match.EXACT
            else case.answer in text
        )
        return Mark(right, (right,), None if right else ErrorKind.WORD)

    def skill_at(self, case: Case, before: str) -> str:  # noqa: ARG002 (as every suite)
        """Unknown."""
        return ""


_EXAMPLE: Final = '{"prompt": "What is 1 plus 1?", "answer": "2"}'


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _case(path: Path, number: int, line: str) -> Case:
    try:
        document = json.loads(line)
        prompt, answer = document["prompt"], document["answer"]
    except (ValueError, KeyError, TypeError):
        prompt = answer = None
    if not (isinstance(prompt, str) and prompt and isinstance(answer, str) and answer):
        raise Misconfigured(f"{path}:{number}: must be like {_EXAMPLE}")
    if not _is_unicode(prompt + answer):
        raise Misconfigured(f"{path}:{number}: has half a surrogate pair, which is no character")
    return Case(str(number), prompt, answer, parts=1)
