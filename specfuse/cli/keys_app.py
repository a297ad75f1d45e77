"""The commands `specfuse keys new`, `list` and `revoke`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

keys_app = typer.Typer(help="Make, list and revoke the API keys that a fuser asks for.")

File = Annotated[
    Path,
    typer.Option(
        "--file",
        metavar="FILE",
        envvar="SPECFUSE_KEYS",
        help="The file that tenancy.keys of the fuser's settings names. It holds hashes, no keys.",
    ),
]


@keys_app.command("new")
def new(
    *,
    file: File,
    team: Annotated[
        str, typer.Option(help="Whose it is: a team of tenancy.teams in the fuser's settings.")
    ],
    expires: Annotated[
        str | None,
        typer.Option(
            metavar="DATE|DAYS", help="When it ends: 2027-01-31, or 90d from now. Default: never."
        ),
    ] = None,
) -> None:
    """Make a key, and show it. That is the only time: the file has its hash.

    A running fuser takes the key within seconds of the file reaching it.
    """
    from specfuse.cli import keys  # noqa: PLC0415 (heavy)

    keys.new(file, team, expires)


@keys_app.command("list")
def list_(
    *,
    file: File,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a line, for programs.")
    ] = False,
) -> None:
    """List the keys: their ids, teams, and from when to when they count."""
    from specfuse.cli import keys  # noqa: PLC0415 (heavy)

    keys.show(file, as_json=as_json)


@keys_app.command("revoke")
def revoke(
    *,
    file: File,
    key: Annotated[str, typer.Argument(metavar="ID", help="The id of the key, as list shows it.")],
) -> None:
    """Revoke a key. Answers that are under way go on; new requests with it are refused."""
    from specfuse.cli import keys  # noqa: PLC0415 (heavy)

    keys.revoke(file, key)
