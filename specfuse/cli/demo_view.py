"""The demo's questions and answers on a terminal. Pure: outcomes in, renderables out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from specfuse.cli.trace import Palette
from specfuse.client import Answer
from specfuse.demo.skills import Part, Question, score

_RIGHT, _WRONG = "green", "red"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A question's answers: by every expert on its own, by name, and by all of them fused."""

    question: Question
    alone: Mapping[str, Answer]
    fused: Answer

    @property
    def right(self) -> bool:
        """Whether the fused answer is exact and no member was lost."""
        return is_exact(self.question, self.fused) and not self.fused.degraded


def is_exact(question: Question, answer: Answer) -> bool:
    """Whether the answer is the one right answer, word for word."""
    return score(question, answer.text).exact


def question_block(outcome: Outcome) -> Padding:
    """A question, the words that each expert alone would put into the answer, the fused answer."""
    question, fused = outcome.question, outcome.fused
    palette = Palette(tuple(outcome.alone))
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, answer in outcome.alone.items():
        words = Text("  ").join(_word(part, answer.text) for part in question.parts)
        table.add_row(Text(name, palette.colour(name)), _tick(question, answer), words)
    table.add_row(Text("fused", "bold"), _tick(question, fused), coloured(fused))
    table.add_row("", "", _how(fused))
    return Padding(Group(Text(question.prompt, "bold"), table), (1, 0, 0, 0))


def coloured(answer: Answer) -> Text:
    """The answer, each segment in its winner's colour."""
    palette = Palette(answer.members)
    text = Text()
    for segment in answer.segments:
        text.append(segment.text, palette.colour(segment.winner))
    return text.append(answer.finished.text)


def summary_table(outcomes: Sequence[Outcome]) -> Padding:
    """Which of the questions each expert, and all fused, answered exactly."""
    names = tuple(outcomes[0].alone)
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("exact answers")
    for outcome in outcomes:
        count = len(outcome.question.parts)
        table.add_column(f"{count} part{'s' if count > 1 else ''}", justify="center")
    for name in names:
        ticks = (_tick(outcome.question, outcome.alone[name]) for outcome in outcomes)
        table.add_row(Text(name, Palette(names).colour(name)), *ticks)
    table.add_row(
        Text("fused", "bold"), *(_tick(outcome.question, outcome.fused) for outcome in outcomes)
    )
    return Padding(table, (1, 0, 0, 0))


def _tick(question: Question, answer: Answer) -> Text:
    return Text("✓", f"bold {_RIGHT}") if is_exact(question, answer) else Text("✗", _WRONG)


def _word(part: Part, answer: str) -> Text:
    """The word that the answer gives to a part: sentences differ in nothing else."""
    sentence = re.search(f"{re.escape(part.lead)} (.*?){re.escape(part.tail)}", answer)
    word = "–" if sentence is None else sentence[1]
    return Text(word, _RIGHT if word == part.answer else _WRONG)


def _how(answer: Answer) -> Text:
    """Who wrote how many of the segments, and how many calls that took."""
    wins = Counter(segment.winner for segment in answer.segments)
    won = ", ".join(f"{name} {count}" for name, count in _in_order(wins, answer.members))
    return Text(
        f"segments won: {won} · {answer.calls_made} calls, {answer.calls_avoided} avoided", "dim"
    )


def _in_order(wins: Counter[str], members: Iterable[str]) -> list[tuple[str, int]]:
    return [(member, wins[member]) for member in members if wins[member]]
