"""What scenarios came to, in numbers, and the report of all of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from statistics import median
from typing import Any

from tests.robustness.checker import Problem
from tests.robustness.history import Answered, Failed, History


@dataclass(frozen=True, slots=True)
class Counted:
    """The questions of a scenario, and what came of them.

    `degraded` answers did without a member from some round on, `short` ones in some round only, and
    both say so. `resumed` were gone on with at another fuser.
    """

    scenario: str
    asked: int
    lost: int
    wrong: int
    degraded: int
    short: int
    resumed: int
    median_seconds: float
    longest_seconds: float


def count(scenario: str, history: History, problems: Iterable[Problem]) -> Counted:
    """The numbers of a history in which these problems were found."""
    answers = [end for end in history.ends if isinstance(end, Answered)]
    seconds = [history.seconds(end) for end in history.ends]
    return Counted(
        scenario=scenario,
        asked=len(history.asked),
        lost=len(history.asked) - len(answers),
        wrong=len({problem.call for problem in problems}),
        degraded=sum(bool(end.lost) for end in answers),
        short=sum(bool(end.missed) and not end.lost for end in answers),
        resumed=sum(bool(end.resumed) for end in answers),
        median_seconds=round(median(seconds), 2),
        longest_seconds=round(max(seconds), 2),
    )


def errors_of(history: History) -> list[str]:
    """The errors that came in place of answers."""
    return [end.error for end in history.ends if isinstance(end, Failed)]


@dataclass(slots=True)
class Report:
    """A row for every scenario, and what else was measured or found, by what it is."""

    versions: dict[str, str] = field(default_factory=dict)
    rows: list[Counted] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)

    def write(self, directory: Path) -> None:
        """Writes it to `cluster.json` and, as tables, to `cluster.md`."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "cluster.json").write_text(json.dumps(asdict(self), indent=2) + "\n")
        names = [one.name for one in fields(Counted)]
        rows = [[str(getattr(row, name)) for name in names] for row in self.rows]
        numbers = [[name, str(value)] for name, value in self.numbers.items()]
        versions = [[name, value] for name, value in self.versions.items()]
        tables = (
            _table(["program", "version"], versions),
            _table(names, rows),
            _table(["measured", "value"], numbers),
        )
        (directory / "cluster.md").write_text("\n".join(tables))


def _table(names: list[str], rows: Iterable[list[str]]) -> str:
    head = [[name.replace("_", " ") for name in names], ["---"] * len(names)]
    return "".join(f"| {' | '.join(line)} |\n" for line in (*head, *rows))
