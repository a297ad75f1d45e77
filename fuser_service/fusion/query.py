"""One query, resolved: what is asked, by which rules, and how long its members are waited for."""

from __future__ import annotations

from dataclasses import dataclass, field

from fuser_service.core.rules import Rules
from fuser_service.core.types import Prompt, Sampling


@dataclass(frozen=True, slots=True)
class Timings:
    """How long a query waits for its members, in seconds.

    Once a quorum has answered, the others have `straggler_grace_seconds` more; every call of a
    round ends within `round_timeout_seconds` of the round's start and by the request's deadline.
    """

    straggler_grace_seconds: float = 5.0
    round_timeout_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Query:
    """One query, resolved: `rules.members` are the ensemble's members, in its order.

    A resumed query brings the `committed_segments` of the answer so far and the `committed_tokens`
    spent on them, which count against `rules.max_tokens`.
    """

    ensemble: str
    rules: Rules
    prompt: Prompt
    session_id: str
    sampling: Sampling = field(default_factory=Sampling)
    committed_segments: tuple[str, ...] = ()
    committed_tokens: int = 0
    timings: Timings = field(default_factory=Timings)
