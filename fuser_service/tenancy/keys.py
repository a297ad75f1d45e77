"""API keys: their form, and what is kept of them.

A key is `sf-` and 32 random bytes. Only its hash is kept, and its first characters as an id that
may be shown: what is left is far beyond guessing, so the hash needs neither salt nor slowness.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Final

_PREFIX: Final = "sf-"
_BYTES: Final = 32
_KEY: Final = re.compile(r"sf-[A-Za-z0-9_-]{43}")
_ID_CHARACTERS: Final = len(_PREFIX) + 8


@dataclass(frozen=True, slots=True)
class Key:
    """What is kept of a key. Without `expires` (with a time zone) it lasts until it is revoked."""

    id: str
    sha256: str
    team: str
    expires: datetime | None = None

    def expired(self, now: datetime) -> bool:
        """Whether it counts no more."""
        return self.expires is not None and now >= self.expires


def new_key() -> str:
    """A key that nobody has."""
    return f"{_PREFIX}{secrets.token_urlsafe(_BYTES)}"


def is_key(text: str) -> bool:
    """Whether the text has the form of a key."""
    return _KEY.fullmatch(text) is not None


def id_of(key: str) -> str:
    """What may be shown of a key."""
    return key[:_ID_CHARACTERS]


def digest_of(key: str) -> str:
    """What is kept of a key, in hexadecimal."""
    return hashlib.sha256(key.encode()).hexdigest()
