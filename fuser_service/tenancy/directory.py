"""From what a call shows to who makes it. Pure."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from fuser_service.tenancy.caller import ANONYMOUS, Caller, Credentials, Team
from fuser_service.tenancy.keys import Key, digest_of, is_key
from specfuse.errors import Unauthenticated

_SCHEME: Final = "bearer"
_HOW: Final = "send one as `authorization: Bearer sf-...`"


@dataclass(frozen=True, slots=True)
class Directory:
    """All teams, and what proves that a caller is of one.

    `certificates` are teams by the names in their client certificates. Without `keyed`, there are
    no keys here, and what callers send as one means nothing. `anonymous` is the team of those that
    show nothing; None refuses them.
    """

    teams: Mapping[str, Team]
    certificates: Mapping[str, str] = field(default_factory=dict)
    keyed: bool = False
    anonymous: Team | None = None
    keys: Mapping[str, Key] = field(default_factory=dict, repr=False)

    def with_keys(self, keys: Iterable[Key]) -> Directory:
        """The same, with these keys instead. Each must be of one of the teams."""
        return replace(self, keyed=True, keys={key.sha256: key for key in keys})

    def caller(self, credentials: Credentials, now: datetime) -> Caller:
        """Who shows these credentials. A key counts more than a certificate.

        Raises:
            Unauthenticated: nobody who is known here.
        """
        if self.keyed and (key := _bearer(credentials.authorization)):
            return self._holder(key, now)
        for name in credentials.certificate_names:
            if name in self.certificates:
                return Caller(self.teams[self.certificates[name]], name)
        if self.anonymous is None:
            raise Unauthenticated(self._nothing_shown(credentials))
        return Caller(self.anonymous)

    def _holder(self, key: str, now: datetime) -> Caller:
        digest = digest_of(key)
        found = self.keys.get(digest)
        if found is None or not hmac.compare_digest(found.sha256, digest):
            raise Unauthenticated("the API key is not known here; it may have been revoked")
        if found.expired(now):
            raise Unauthenticated(f"the API key {found.id} expired on {found.expires}; get another")
        return Caller(self.teams[found.team], found.id)

    def _nothing_shown(self, credentials: Credentials) -> str:
        if not self.keyed:
            names = ", ".join(credentials.certificate_names) or "none"
            return f"callers are known by their certificate, and its names ({names}) are not"
        return f"an API key is needed: {_HOW}"


def anonymous_of(teams: Mapping[str, Team]) -> Team:
    """The team of anonymous callers: the one of that name, or one that nothing limits."""
    return teams.get(ANONYMOUS) or Team(ANONYMOUS)


def _bearer(values: tuple[str, ...]) -> str:
    """The key that is sent; empty if none is.

    Clients that cannot do without a key send `Bearer` and nothing after it where they have none.
    """
    if not values:
        return ""
    if len(values) > 1:
        raise Unauthenticated("several `authorization` headers; send one")
    scheme, _, key = values[0].strip().partition(" ")
    if scheme.lower() != _SCHEME:
        raise Unauthenticated(f"the `authorization` header is not of the scheme Bearer; {_HOW}")
    key = key.strip()
    if key and not is_key(key):
        raise Unauthenticated("what was sent has not the form of an API key: sf- and 43 characters")
    return key
