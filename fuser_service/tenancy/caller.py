"""Who asks: a team, and by which of its keys. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

ANONYMOUS: Final = "anonymous"
"""The team of callers that show nothing, where they are let in."""


@dataclass(frozen=True, slots=True)
class Team:
    """Callers that share limits. None as a limit means none, as `ensembles` it means all of them.

    `requests_in_flight` are answers at a time; what is per minute holds for any 60 seconds. Those
    of higher `priority` are nearer to the front where requests wait.
    """

    name: str
    ensembles: frozenset[str] | None = None
    requests_in_flight: int | None = None
    requests_per_minute: int | None = None
    output_tokens_per_minute: int | None = None
    priority: int = 0

    def may_ask(self, ensemble: str) -> bool:
        """Whether the ensemble answers this team."""
        return self.ensembles is None or ensemble in self.ensembles


@dataclass(frozen=True, slots=True)
class Caller:
    """A team, and the public name of the key or certificate that says so; empty if none does."""

    team: Team
    key: str = ""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a call shows of who makes it, whatever the transport. Nothing in it is trusted yet.

    `authorization` are the values of the header of that name, `certificate_names` those in the
    client certificate that the transport has verified: alternative names, then the common name.
    """

    authorization: tuple[str, ...] = field(default=(), repr=False)
    certificate_names: tuple[str, ...] = ()
