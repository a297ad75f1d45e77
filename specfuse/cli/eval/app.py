"""`specfuse eval`, and the commands below it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from specfuse.cli.eval.command import evaluate

eval_app = typer.Typer(invoke_without_command=True)
families_app = typer.Typer(help="Experts that a seed invents, and what is asked of them.")

eval_app.callback()(evaluate)
eval_app.add_typer(families_app, name="families")


@families_app.command("list")
def list_() -> None:
    """List the shipped families, and what each is for: choosing a policy, or reporting on it."""
    from specfuse.cli.eval import families  # noqa: PLC0415 (heavy)

    families.show()


@families_app.command("make")
def make(
    *,
    seed: Annotated[
        int, typer.Option(min=0, help="Which family. Below 100 are for choosing, the others not.")
    ],
    out: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Where it goes. Members that are there are kept."),
    ],
) -> None:
    """Invent a family and train its members: minutes for each on one CPU thread.

    Stopped, it goes on where it was when it is run again; only the member under way begins anew.
    """
    from specfuse.cli.eval import families  # noqa: PLC0415 (heavy)

    families.make(seed, out)


@families_app.command("report")
def report(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="What --json printed, a file for each family."),
    ],
) -> None:
    """Put the results of several families into one page of Markdown, a row for each of theirs.

    Example: [bold]specfuse eval families report dune-101.json jetty-104.json > families.md[/bold]
    """
    from specfuse.cli.eval import families  # noqa: PLC0415 (heavy)

    families.report(files)
