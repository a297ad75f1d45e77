"""`specfuse eval families`: which there are, how one is made, and results of several."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import astuple, fields
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from specfuse.errors import Misconfigured
from specfuse.eval.outcomes import page
from specfuse.families.description import Family, Member
from specfuse.families.directory import described
from specfuse.families.invention import invent
from specfuse.families.registry import purpose_of, shipped

_WIDTH = 140


def show() -> None:
    """Prints the shipped families."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("family", "members", "for", "directory"):
        table.add_column(heading, no_wrap=True)
    for name, directory in shipped().items():
        family = described(directory)
        members = ", ".join(member.name for member in family.members)
        table.add_row(name, members, str(purpose_of(family.seed)), str(directory))
    Console(highlight=False, width=_WIDTH).print(table)


def make(seed: int, directory: Path) -> None:
    """Makes what the directory lacks of the family, and prints what its members do.

    Raises:
        Misconfigured: the directory has another family, or cannot be written.
    """
    import torch  # noqa: PLC0415 (only training needs it)

    from specfuse.families.making import make as make_family  # noqa: PLC0415
    from specfuse.families.training import Plan  # noqa: PLC0415

    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)  # small matrices are multiplied fastest by one
    family, plan = invent(seed), Plan()
    console = Console(stderr=True)
    with _Bars(family, plan.steps, console) as bars:
        try:
            measured = make_family(family, directory, plan, bars.advance)
        except OSError as error:
            problem = f"--out {directory}: cannot be written: {error.strerror}"
            raise Misconfigured(problem) from error
    table = Table(title=f"{family.name}: what its members do", box=None, header_style="dim")
    table.add_column("member")
    for column in fields(next(iter(measured.values()))):
        table.add_column(column.name.replace("_", " "), justify="right")
    for name, one in measured.items():
        table.add_row(name, *(f"{value:.2f}" for value in astuple(one)))
    Console(width=_WIDTH).print(table)


class _Bars:
    """A bar for each member while a family is made."""

    def __init__(self, family: Family, steps: int, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description:>10}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {
            member.name: self._progress.add_task(member.name, total=steps, start=False, numbers="")
            for member in family.members
        }

    def advance(self, member: Member, *, step: int, loss: float | None) -> None:
        """Shows how far a member is."""
        task = self._tasks[member.name]
        self._progress.start_task(task)
        numbers = "" if loss is None else f"loss {loss:.3f}"
        self._progress.update(task, completed=step, numbers=numbers)

    def __enter__(self) -> _Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()


def report(files: Sequence[Path]) -> None:
    """Prints a page on the results in these files.

    Raises:
        Misconfigured: one is not what `specfuse eval --family ... --json` prints.
    """
    documents = []
    for file in files:
        try:
            documents.append(json.loads(file.read_bytes()))
        except (OSError, ValueError) as error:
            raise Misconfigured(f"{file}: cannot be read: {error}") from error
    try:
        sys.stdout.write(page(documents))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        names = ", ".join(map(str, files))
        problem = f"{names}: one is not what `specfuse eval --family NAME --json` prints"
        raise Misconfigured(problem) from error
