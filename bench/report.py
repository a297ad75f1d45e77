"""How benches show their tables: to people as tables, to whatever else reads them as Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

LEFT_OUT: Final = 77
"""The exit code of a bench that lacks what it needs here, as of tests for automake."""


def show(*tables: Table) -> None:
    """Prints tables to stdout; as Markdown unless that is a terminal."""
    console = Console()
    for table in tables:
        if console.is_terminal:
            console.print(table)
        else:
            print("", *markdown(table), "", sep="\n")


def markdown(table: Table) -> Iterator[str]:
    """The lines of a table, its title above and its caption below."""
    if table.title:
        yield f"**{_plain(table.title)}**"
        yield ""
    yield _row(_plain(column.header) for column in table.columns)
    yield _row(_ruler(column) for column in table.columns)
    for cells in zip(*(column.cells for column in table.columns), strict=True):
        yield _row(_plain(cell) for cell in cells)
    if table.caption:
        yield ""
        yield _plain(table.caption)


def _row(cells: Iterator[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _ruler(column: Column) -> str:
    return "---:" if column.justify == "right" else "---"


def _plain(cell: object) -> str:
    """What a cell says, without its looks, on one line."""
    text = cell if isinstance(cell, Text) else Text.from_markup(str(cell))
    return " ".join(text.plain.split())
