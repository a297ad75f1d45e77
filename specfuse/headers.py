"""Request metadata that our callers and services agree on beyond the contract's messages."""

from __future__ import annotations

from typing import Final

AUTHORIZATION: Final = "authorization"
"""Says who calls: `Bearer` and an API key."""

REQUEST_ID: Final = "x-request-id"
"""In what a fuser sends first: what the request is called in its accounts."""
