"""The section `tenancy` of a fuser's settings.

tenancy:
  keys: /etc/specfuse/keys/keys.yaml
  teams:
    search: {ensembles: [assistant], requests_in_flight: 8, output_tokens_per_minute: 100000}
    batch: {requests_per_minute: 60, priority: -10}
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field

from fuser_service.tenancy.caller import Team
from fuser_service.tenancy.directory import Directory, anonymous_of
from specfuse.config.settings_file import Problem
from specfuse.config.types import Count, Name, Section

MOST_PRIORITY: Final = 1000


class TeamSection(Section):
    """What a team may have. A limit that is absent does not limit."""

    ensembles: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None
    """The ensembles it may ask. Absent: all."""
    certificates: tuple[Annotated[str, Field(min_length=1, max_length=256)], ...] = ()
    """Names in client certificates, alternative or common, that make a caller one of this team.
    Needs `tls.client_ca`."""
    requests_in_flight: Count | None = None
    """Most answers at a time, those that wait for a place, or for members to wake, included."""
    requests_per_minute: Count | None = None
    """Most requests in any 60 seconds."""
    output_tokens_per_minute: Count | None = None
    """Once answers that ended in the last 60 seconds have so many tokens, requests are refused."""
    priority: Annotated[int, Field(strict=True, ge=-MOST_PRIORITY, le=MOST_PRIORITY)] = 0
    """Where the fuser is full, a step of priority counts as a second of waiting."""

    def team(self, name: str) -> Team:
        """The team as those see it who decide about its requests."""
        return Team(
            name,
            None if self.ensembles is None else frozenset(self.ensembles),
            self.requests_in_flight,
            self.requests_per_minute,
            self.output_tokens_per_minute,
            self.priority,
        )


class Store(Section):
    """A Redis or Valkey server in which all replicas count together."""

    url: Annotated[str, Field(pattern=r"^(redis|rediss|valkey|valkeys)://[^@]+$")]
    """As in redis://host:6379/0; rediss and valkeys are over TLS. Without a password."""
    username: str = ""
    """Who logs in, where that is not the default user."""
    password_file: Path | None = None
    """A file with the password and nothing else, but for a newline."""
    timeout_seconds: Annotated[float, Field(strict=True, gt=0, le=10)] = 0.25
    """How long a request waits for the store before it is counted in its own replica."""


class Accounting(Section):
    """A line of JSON for each request, without any text of it."""

    file: Path | None = None
    """Where lines are appended. A file that is renamed is begun anew. Absent: stderr."""


class Tenancy(Section):
    """Who may ask what, and how much."""

    anonymous: Literal["refuse", "allow"] = "refuse"
    """Whether callers are let in that show neither key nor certificate: as the team `anonymous`."""
    keys: Path | None = None
    """The file of API keys that `specfuse keys` writes. It is followed: no restart is needed."""
    teams: dict[Name, TeamSection] = Field(default_factory=dict, max_length=1024)
    """Who there is, by name."""
    replicas: Count = 1
    """How many fusers are alike: each allows its part of every limit. With a `store` only answers
    at a time are divided."""
    store: Store | None = None
    """Where what is per minute is counted for all replicas together. Absent: each by itself."""
    accounting: Accounting | None = None
    """Absent: no accounts."""

    def directory(self) -> Directory:
        """The teams, as yet without keys."""
        teams = {name: section.team(name) for name, section in self.teams.items()}
        return Directory(
            teams=teams,
            certificates={
                certificate: name
                for name, section in self.teams.items()
                for certificate in section.certificates
            },
            keyed=self.keys is not None,
            anonymous=anonymous_of(teams) if self.anonymous == "allow" else None,
        )

    def contradictions(
        self, ensembles: Collection[str], *, certificates: bool, line: bool
    ) -> Iterator[Problem]:
        """What is wrong as a whole.

        Args:
            ensembles: Those that there are.
            certificates: Whether callers are asked for one.
            line: Whether requests may wait for a place.
        """
        if self.anonymous == "refuse" and self.keys is None and not self._names():
            remedy = "give keys: FILE, or certificates of a team, or anonymous: allow"
            yield Problem((), f"nobody could ask; {remedy}")
        owners: dict[str, str] = {}
        for name, team in self.teams.items():
            yield from _unknown_ensembles(name, team, ensembles)
            yield from _certificates_twice(name, team, owners)
            if team.certificates and not certificates:
                problem = "need tls.client_ca, or nobody is asked for one"
                yield Problem(("teams", name, "certificates"), problem)
            if team.priority and not line:
                problem = "has no effect while limits.requests_waiting is 0; raise that"
                yield Problem(("teams", name, "priority"), problem)

    def _names(self) -> list[str]:
        return [name for team in self.teams.values() for name in team.certificates]


def _unknown_ensembles(
    name: str, team: TeamSection, ensembles: Collection[str]
) -> Iterator[Problem]:
    for position, ensemble in enumerate(team.ensembles or ()):
        if ensemble not in ensembles:
            yield Problem(("teams", name, "ensembles", position), f"there is no {ensemble}")


def _certificates_twice(name: str, team: TeamSection, owners: dict[str, str]) -> Iterator[Problem]:
    for position, certificate in enumerate(team.certificates):
        owner = owners.setdefault(certificate, name)
        if owner != name:
            problem = f"{certificate} is of the team {owner} already; drop one"
            yield Problem(("teams", name, "certificates", position), problem)
