"""Seeds as servers take them."""

from __future__ import annotations

import hashlib
from typing import Final

from model_service.backends.remote.server import TokenizedContext
from model_service.core.types import Sampling

_BITS: Final = 31
"""Every server takes so many; some take a larger seed for none."""


def seed_of(sampling: Sampling, context: TokenizedContext) -> int:
    """The seed for tokens after a context, in [0, 2**31).

    A second call with the same seed further on does not repeat the first one's draws.
    """
    digest = hashlib.blake2b(f"{sampling.seed}/{len(context.ids)}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> (64 - _BITS)
