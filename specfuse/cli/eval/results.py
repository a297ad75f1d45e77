"""Where the results of `specfuse eval` go: the terminal, charts and pages."""

from __future__ import annotations

import json
import shlex
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console

from specfuse.cli.eval.options import Options
from specfuse.errors import Misconfigured
from specfuse.eval import tables
from specfuse.eval.report import Report

_WIDTH = 200
"""Columns that all tables fit into: a narrow terminal wraps their lines, but no number is lost."""


def check_charts(directory: Path | None) -> None:
    """Says before anything is measured, rather than after, that charts cannot be written."""
    if directory is None:
        return
    if find_spec("matplotlib") is None:
        raise Misconfigured("--plot: needs the Python package matplotlib: pip install matplotlib")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise _unwritable(directory, error) from error


def tell(report: Report, options: Options) -> None:
    """Prints the report, and writes its charts and page if they are asked for."""
    if options.as_json:
        json.dump(report.to_document(), sys.stdout, ensure_ascii=False)
        sys.stdout.write("\n")
    else:
        console = Console(highlight=False, width=_WIDTH)
        console.print(tables.terminal_table(tables.main_rows(report)))
        console.print()
        console.print(tables.terminal_table(tables.error_rows(report)))
        if report.outcomes:
            _print_kinds(report, console)
    if options.plot is not None:
        _write(report, options.plot, "ablation" if options.ablate else "evaluation")


def _print_kinds(report: Report, console: Console) -> None:
    for title, share in (
        ("exactly right, %", tables.exactly),
        ("inventing facts, %", tables.inventing),
    ):
        console.print(f"\n[bold]{title}[/bold]")
        console.print(tables.terminal_table(tables.kind_rows(report, share)))


def _write(report: Report, directory: Path, stem: str) -> None:
    from specfuse.eval.charts import draw  # noqa: PLC0415 (needs matplotlib, which is optional)

    try:
        charts = draw(report, directory, stem)
        page = tables.markdown(report, command_line(), charts)
        (directory / f"{stem}.md").write_text(page, encoding="utf-8")
    except OSError as error:
        raise _unwritable(directory, error) from error


def _unwritable(directory: Path, error: OSError) -> Misconfigured:
    return Misconfigured(f"--plot {directory}: cannot be written: {error.strerror}")


def command_line() -> str:
    """The running command, in a form to run again."""
    return shlex.join(["specfuse", *sys.argv[1:]])
