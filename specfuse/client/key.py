"""The API key that calls bring along, and where it must not go."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final, TypeAlias

from specfuse.config.addresses import is_loopback
from specfuse.errors import InvalidArgument, Misconfigured
from specfuse.headers import AUTHORIZATION

API_KEY_VARIABLE: Final = "SPECFUSE_API_KEY"
"""The environment variable with the key, where none is given."""

Headers: TypeAlias = tuple[tuple[str, str], ...]
"""What a call brings along, by name."""

_LOCAL: Final = ("unix:", "unix-abstract:")


def headers_of(api_key: str | None, addresses: Iterable[str], *, encrypted: bool) -> Headers:
    """The headers of a call with this key, or that of the environment; with none if it is empty.

    `encrypted` says that nobody on the way can read them, or that it does not matter.

    Raises:
        InvalidArgument: what no header can carry. The message does not repeat it.
        Misconfigured: it would leave this machine in plain text.
    """
    key = (os.environ.get(API_KEY_VARIABLE, "") if api_key is None else api_key).strip()
    if not key:
        return ()
    if not (key.isascii() and key.isprintable()):
        raise InvalidArgument("api_key", "is not printable ASCII")
    for address in addresses:
        if not (encrypted or _stays_here(address)):
            raise Misconfigured(
                f"api_key: would go to {address} in plain text, where others may read it; use TLS, "
                "or allow_plaintext_key if the network encrypts by itself",
                address=address,
            )
    return ((AUTHORIZATION, f"Bearer {key}"),)


def _stays_here(address: str) -> bool:
    return address.startswith(_LOCAL) or is_loopback(address)
