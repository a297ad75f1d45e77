"""What a request came to: for metrics and for whoever writes the bill. Holds no text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One request that ended, however it did.

    `team` and `key` are empty for a caller that is not known, `ensemble` where none was asked that
    there is. Calls are those to members, made and avoided; for tokens see `Effort`.
    """

    request_id: str
    team: str
    key: str
    ensemble: str
    outcome: str
    seconds: float
    prompt_tokens: int = 0
    output_tokens: int = 0
    calls_made: int = 0
    calls_avoided: int = 0
