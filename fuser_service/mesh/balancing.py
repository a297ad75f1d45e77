"""Which replica of a member serves a session.

Rendezvous hashing: every fuser process ranks the endpoints alike from the session's name alone, so
a session finds the replica that has its key-value cache, and when an endpoint goes only its own
sessions move. A load bound (consistent hashing with bounded loads: Mirrokni, Thorup, Zadimoghaddam)
keeps a popular endpoint from taking more than its share.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from fuser_service.mesh.discovery.port import Endpoint

LOAD_BOUND = 1.25
"""No endpoint gets a new session while its load is above this multiple of the mean."""

PINS_KEPT = 16_384
"""Sessions remembered per member; 2 to 4 MB. A forgotten session gets a new endpoint."""


def ranked(session_id: str, endpoints: Collection[Endpoint]) -> tuple[Endpoint, ...]:
    """The endpoints in the session's order of preference, which depends on nothing else."""
    return tuple(sorted(endpoints, key=lambda endpoint: _affinity(session_id, endpoint)))


@dataclass(frozen=True, slots=True)
class Load:
    """What an endpoint has to do, and how much it is fit for.

    `in_flight` are its calls, `warmth`, in (0, 1], the part of a full share of them that it gets.
    """

    in_flight: int = 0
    warmth: float = 1.0


def choose(preferred: Sequence[Endpoint], loads: Mapping[Endpoint, Load]) -> Endpoint:
    """The first endpoint with room for one more call. `preferred` is not empty.

    Room is ceil(LOAD_BOUND * share), the share being the endpoint's part, by warmth, of all calls
    with the new one counted; some endpoint always has it, since not all can be above their shares.
    """
    total = sum(loads[endpoint].in_flight for endpoint in preferred) + 1
    warmth = sum(loads[endpoint].warmth for endpoint in preferred)

    def room(endpoint: Endpoint) -> int:
        return math.ceil(LOAD_BOUND * total * loads[endpoint].warmth / warmth)

    return next(one for one in preferred if loads[one].in_flight < room(one))


class Pins:
    """Remembers which endpoint serves a session, so that load does not move it in mid-answer."""

    def __init__(self, kept: int = PINS_KEPT) -> None:
        self._kept = kept
        self._pins: OrderedDict[str, Endpoint] = OrderedDict()

    def pick(self, session_id: str, loads: Mapping[Endpoint, Load]) -> Endpoint:
        """The session's endpoint if `loads` has it, otherwise a new one, remembered."""
        endpoint = self._pins.get(session_id)
        if endpoint is None or endpoint not in loads:
            endpoint = choose(ranked(session_id, loads.keys()), loads)
        self.pin(session_id, endpoint)
        return endpoint

    def pin(self, session_id: str, endpoint: Endpoint) -> None:
        """Remembers that this endpoint serves the session."""
        self._pins[session_id] = endpoint
        self._pins.move_to_end(session_id)
        if len(self._pins) > self._kept:
            self._pins.popitem(last=False)


def _affinity(session_id: str, endpoint: Endpoint) -> bytes:
    """A number that is random over sessions and endpoints, and the same everywhere."""
    name = f"{len(session_id)}:{session_id}{endpoint}"
    return hashlib.blake2b(name.encode(), digest_size=8).digest()
