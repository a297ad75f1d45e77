"""Request metadata that our callers and services agree on beyond the contract's messages."""

from __future__ import annotations

from typing import Final

TEAM_HEADER: Final = "x-specfuse-team"
"""Names the team that a call is made for; the fuser counts tokens by it."""
