"""Which replica of a member serves a session.

Rendezvous hashing: every fuser process ranks the replicas alike from the session's name alone, so
a session finds the replica that has its key-value cache, and when a replica goes only its own
sessions move. Replicas of the fuser's own zone come first, so it is the fusers of one zone that
rank alike. A load bound (consistent hashing with bounded loads: Mirrokni, Thorup, Zadimoghaddam)
keeps a popular replica from taking more than its share.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from fuser_service.mesh.discovery.port import Address, Endpoint

LOAD_BOUND = 1.25
"""No replica gets a new session while its load is above this multiple of its share."""

PINS_KEPT = 16_384
"""Sessions remembered per member; 2 to 4 MB. A forgotten session gets a new replica."""


def ranked(session_id: str, endpoints: Collection[Endpoint]) -> tuple[Address, ...]:
    """The addresses in the session's order of preference, which depends on nothing else.

    Near ones come before all others.
    """

    def preference(endpoint: Endpoint) -> tuple[bool, bytes]:
        return not endpoint.near, _affinity(session_id, endpoint.address)

    return tuple(endpoint.address for endpoint in sorted(endpoints, key=preference))


def share_of(endpoint: Endpoint, endpoints: Collection[Endpoint]) -> int:
    """How many times the mean of this fuser's calls are the endpoint's to take.

    One that is near serves the fusers of its zone and is left alone by those of others. Fusers are
    thought to be spread evenly over the zones where replicas are: of the calls of one of them, a
    near replica then takes as many times the mean as there are zones, and all replicas get as much.
    """
    return len({one.zone for one in endpoints}) if endpoint.near else 1


@dataclass(frozen=True, slots=True)
class Load:
    """What a replica has to do, and how much it is fit for.

    `in_flight` are its calls, `warmth`, in (0, 1], the part of a full share of them that it gets,
    and `share` how many times the mean a full share is, at least 1.
    """

    in_flight: int = 0
    warmth: float = 1.0
    share: float = 1.0


def choose(preferred: Sequence[Address], loads: Mapping[Address, Load]) -> Address:
    """The first address with room for one more call. `preferred` is not empty.

    Room is ceil(LOAD_BOUND * share), the share being the replica's part, by warmth, of all calls
    with the new one counted, as many times as it says; some replica always has room, since not all
    can be above their shares.
    """
    total = sum(loads[address].in_flight for address in preferred) + 1
    warmth = sum(loads[address].warmth for address in preferred)

    def room(load: Load) -> int:
        return math.ceil(LOAD_BOUND * total * load.share * load.warmth / warmth)

    return next(one for one in preferred if loads[one].in_flight < room(loads[one]))


class Pins:
    """Remembers which replica serves a session, so that load does not move it in mid-answer."""

    def __init__(self, kept: int = PINS_KEPT) -> None:
        self._kept = kept
        self._pins: OrderedDict[str, Address] = OrderedDict()

    def get(self, session_id: str) -> Address | None:
        """Where the session was last, if that is remembered."""
        return self._pins.get(session_id)

    def pin(self, session_id: str, address: Address) -> None:
        """Remembers that this replica serves the session."""
        self._pins[session_id] = address
        self._pins.move_to_end(session_id)
        if len(self._pins) > self._kept:
            self._pins.popitem(last=False)


def _affinity(session_id: str, address: Address) -> bytes:
    """A number that is random over sessions and addresses, and the same everywhere."""
    name = f"{len(session_id)}:{session_id}{address}"
    return hashlib.blake2b(name.encode(), digest_size=8).digest()
