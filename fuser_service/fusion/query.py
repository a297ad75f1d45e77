"""One query, resolved: what is asked, by which rules, and how long its members are waited for."""

from __future__ import annotations

from dataclasses import dataclass, field

from fuser_service.core.rules import Rules
from fuser_service.core.types import Prompt, Sampling


@dataclass(frozen=True, slots=True)
class Timings:
    """How long a query waits for its members, in seconds.

    A round has a step or several (proposing, scoring, and both again for members that come back).
    Once a quorum has answered in a step, the others have `straggler_grace_seconds` more; while
    members stand by, those that answered before have that much more than they took. So have those
    that draft while others watch; then these draft as well, and have their own time for it. No call
    takes longer than `round_timeout_seconds`, nor beyond the request's deadline.

    Before all that, members have `wake_seconds` to wake. Once a quorum is awake, the others have
    `wake_grace_seconds` of these.
    """

    straggler_grace_seconds: float = 5.0
    round_timeout_seconds: float = 60.0
    wake_seconds: float = 0.0
    wake_grace_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Query:
    """One query, resolved: `rules.members` are the ensemble's members, in its order.

    A resumed query brings the `committed_segments` of the answer so far and the `committed_tokens`
    spent on them, which count against `rules.max_tokens`. With `draft_ahead`, a member that drafts
    alone is asked for what comes next while the others judge what it drafted.
    """

    ensemble: str
    rules: Rules
    prompt: Prompt
    session_id: str
    sampling: Sampling = field(default_factory=Sampling)
    committed_segments: tuple[str, ...] = ()
    committed_tokens: int = 0
    timings: Timings = field(default_factory=Timings)
    draft_ahead: bool = False
