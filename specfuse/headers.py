"""Request metadata that our callers and services agree on beyond the contract's messages."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from typing import Final

AUTHORIZATION: Final = "authorization"
"""Says who calls: `Bearer` and an API key."""

REQUEST_ID: Final = "x-request-id"
"""In what a fuser sends first: what the request is called in its accounts."""

LINEAGE: Final = "x-specfuse-lineage"
"""In what a model service sends last: what gave the answer, as `lineage_mark` has it."""


@lru_cache(maxsize=1024)  # every answer has one, and there are few
def lineage_mark(revision: str, tokenizer_fingerprint: str, backend: str) -> str:
    """A word for what gives answers: another one wherever GetModel tells anything else of it."""
    told = json.dumps([revision, tokenizer_fingerprint, backend])
    return hashlib.blake2b(told.encode(), digest_size=16).hexdigest()
