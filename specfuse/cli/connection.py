"""Options of every command that calls services: where, what to trust, and the caller's identity."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from specfuse.errors import InvalidArgument

if TYPE_CHECKING:
    from specfuse.client import ClientTls

_PANEL = "Connection (plain text unless TLS is asked for)"

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

ApiKeyFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Send the API key in this file. Without it, that in SPECFUSE_API_KEY, if there is "
        "one.",
        rich_help_panel=_PANEL,
    ),
]
AllowPlaintextKey = Annotated[
    bool,
    typer.Option(
        "--allow-plaintext-key",
        help="Send the key to other machines without TLS: the network encrypts by itself.",
        rich_help_panel=_PANEL,
    ),
]

DEFAULT_ADDRESS = "127.0.0.1:50050"
"""Where a fuser is, unless said otherwise."""


def addresses_of(given: Iterable[str] | None) -> list[str]:
    """The addresses that are given, each several times or several in one with commas between.

    Raises:
        InvalidArgument: one is empty.
    """
    addresses = [
        one.strip() for several in given or [DEFAULT_ADDRESS] for one in several.split(",")
    ]
    if not all(addresses):
        raise InvalidArgument("--address", "has an empty one; give host:port, or several a:1,b:2")
    return addresses


def key_of(file: Path | None) -> str | None:
    """The API key in the file; None, that of the environment, if no file is given.

    Raises:
        InvalidArgument: the file cannot be read, or is empty.
    """
    if file is None:
        return None
    try:
        key = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        said = "not UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise InvalidArgument("--api-key-file", f"{file} cannot be read: {said}") from error
    if not key:
        raise InvalidArgument("--api-key-file", f"{file} is empty")
    return key


def tls_of(ca: Path | None, certificate: Path | None, key: Path | None) -> ClientTls | None:
    """The TLS that the options ask for; None, plain text, if there are none.

    Raises:
        InvalidArgument: one of certificate and key is given without the other.
    """
    from specfuse.client import ClientTls  # noqa: PLC0415 (heavy)

    if certificate and not key:
        raise InvalidArgument("--tls-key", "is missing; it goes together with --tls-cert")
    if key and not certificate:
        raise InvalidArgument("--tls-cert", "is missing; it goes together with --tls-key")
    return ClientTls(ca, certificate, key) if ca or certificate else None
