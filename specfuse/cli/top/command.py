"""The command `specfuse top` and its options."""

from __future__ import annotations

from typing import Annotated

import typer


def top(
    *,
    fuser: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Where a fuser's metrics are. Give one for each replica.",
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]HOST:PORT",
            help="Where a model service's metrics are. Give one for each replica of each model.",
        ),
    ] = None,
    interval: Annotated[
        float,
        typer.Option(min=0.1, max=3600, metavar="SECONDS", help="Numbers are over so long."),
    ] = 2.0,
    once: Annotated[
        bool,
        typer.Option(
            "--once", help="Print one interval and end. So it is where stdout is no terminal."
        ),
    ] = False,
) -> int:
    """Watch a running mesh: who wins, how fast, what is saved, what goes wrong.

    It reads the services' metrics. specfuse up prints the command for its mesh;
    without addresses it is 127.0.0.1:9090 for the fuser, and 127.0.0.1:9091
    for a model if there is one. Ctrl-C ends it.

    Example: [bold]specfuse top --fuser 127.0.0.1:9090 --model llama=127.0.0.1:9091[/bold]
    """
    from specfuse.cli.top.session import watch  # noqa: PLC0415 (heavy)
    from specfuse.cli.top.targets import targets_of  # noqa: PLC0415

    return watch(targets_of(fuser or (), model or ()), interval, once=once)
