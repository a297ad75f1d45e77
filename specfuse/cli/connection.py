"""Options of every command that calls services: what to trust, and whom to be known as."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specfuse.errors import InvalidArgument

if TYPE_CHECKING:
    from specfuse.client import ClientTls

_PANEL = "Connection (plain text unless one of these is given)"

TlsCa = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Speak TLS to services that these authorities, in PEM, vouch for.",
        rich_help_panel=_PANEL,
    ),
]
TlsCert = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Show this certificate chain, in PEM. Needs --tls-key.",
        rich_help_panel=_PANEL,
    ),
]
TlsKey = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="The certificate's private key, in PEM.", rich_help_panel=_PANEL
    ),
]


def tls_of(ca: Path | None, certificate: Path | None, key: Path | None) -> ClientTls | None:
    """What the options come to; None, plain text, if there are none.

    Raises:
        InvalidArgument: one of certificate and key is given without the other.
    """
    from specfuse.client import ClientTls  # noqa: PLC0415 (heavy)

    if certificate and not key:
        raise InvalidArgument("--tls-key", "is missing; it goes together with --tls-cert")
    if key and not certificate:
        raise InvalidArgument("--tls-cert", "is missing; it goes together with --tls-key")
    return ClientTls(ca, certificate, key) if ca or certificate else None
