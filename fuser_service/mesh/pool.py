"""The replicas of a member, and which of them a call goes to."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import grpc

from fuser_service.mesh.balancing import Load, Pins, choose, ranked, share_of
from fuser_service.mesh.discovery.port import Address, Endpoint
from fuser_service.mesh.lineage import Lineage
from fuser_service.mesh.replica import Replica
from fuser_service.mesh.stream import Streams

_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Hold:
    """What one query holds on to of a member, for as long as there is the query.

    `address` is the replica that answered it last, and `lineage` what it began with: only replicas
    of that answer it. None before the first answer. `streams` are those of its calls.
    """

    session_id: str
    address: Address | None = None
    lineage: Lineage | None = None
    streams: Streams = field(default_factory=Streams)


class Pool:
    """Replicas of the member `name`, by address.

    `connect` opens a channel without waiting for the other side.
    """

    def __init__(self, name: str, connect: Callable[[Address], grpc.aio.Channel]) -> None:
        self._name = name
        self._connect = connect
        self._replicas: dict[Address, Replica] = {}
        self._mixed: frozenset[Lineage] = frozenset()
        self._pins = Pins()
        self._retiring: set[asyncio.Task[None]] = set()
        self._told: list[Callable[[], None]] = []

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where the replicas are."""
        return tuple(self._replicas)

    @property
    def ready(self) -> bool:
        """Whether a replica that is there to stay says that it serves, and is not known to fail."""
        return any(replica.ready for replica in _staying(self._replicas.values()))

    @property
    def lineages(self) -> Counter[Lineage]:
        """What replicas that serve said they are, and how many said so."""
        told = (replica.told for replica in self._replicas.values())
        return Counter(lineage for lineage in told if lineage is not None)

    def has(self, lineage: Lineage | None) -> bool:
        """Whether some replica is, or may be, of this lineage; None is any."""
        return any(replica.may_be(lineage) for replica in self._replicas.values())

    @property
    def awake(self) -> bool:
        """Whether a replica that is there to stay says that it serves."""
        return any(replica.serving for replica in _staying(self._replicas.values()))

    def when_changed(self, told: Callable[[], None]) -> None:
        """Has `told` be called, from now on, whenever `awake` may have changed."""
        self._told.append(told)

    def update(self, endpoints: Collection[Endpoint]) -> None:
        """Connects to the endpoints that are new, and lets go of those that are gone."""
        for endpoint in endpoints:
            if endpoint.address in self._replicas:
                self._replicas[endpoint.address].endpoint = endpoint
            else:
                channel = self._connect(endpoint.address)
                self._replicas[endpoint.address] = Replica(endpoint, channel, self._changed)
        for address in self._replicas.keys() - {endpoint.address for endpoint in endpoints}:
            task = asyncio.create_task(self._replicas.pop(address).close())
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)
        self._changed()

    def reconnect(self, connect: Callable[[Address], grpc.aio.Channel]) -> None:
        """Opens all channels anew, and new ones from now on, by `connect`. No call is dropped."""
        self._connect = connect
        for address, replica in self._replicas.items():
            replica.reconnect(connect(address))

    def pick(self, hold: Hold, without: Collection[Address]) -> Replica | None:
        """The replica for a query among those not excluded; None if there is none to ask.

        A query stays where it is, even if that is about to end, for as long as it can be asked; if
        it has to move, it does so to what is about to end only if nobody else is left. One that
        begins goes where its session was, if that is there to stay.
        """
        others = [
            one
            for one in self._replicas.values()
            if one.address not in without and one.may_be(hold.lineage)
        ]
        if stays := _at(hold.address, _worth_asking(others)):
            return stays
        candidates = _worth_asking(_staying(others))
        if hold.address and not candidates:
            candidates = _worth_asking(others)
        known = None if hold.address else self._pins.get(hold.session_id)
        chosen = _at(known, candidates) or self._chosen(hold.session_id, candidates)
        if chosen is not None:
            self._pins.pin(hold.session_id, chosen.address)
        return chosen

    def keep(self, hold: Hold, replica: Replica, lineage: Lineage) -> None:
        """Has the query's next calls, and its session's next queries, go to this replica."""
        hold.address = replica.address
        hold.lineage = lineage
        self._pins.pin(hold.session_id, replica.address)

    async def close(self) -> None:
        """Closes all channels; calls in flight are cancelled."""
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        await asyncio.gather(*(replica.close(grace=0) for replica in self._replicas.values()))
        self._replicas.clear()

    def _changed(self) -> None:
        self._look_at_lineages()
        for told in self._told:
            told()

    def _chosen(self, session_id: str, candidates: Sequence[Replica]) -> Replica | None:
        """The replica for a session that begins."""
        if not candidates:
            return None
        endpoints = [one.endpoint for one in candidates]
        loads = {
            one.address: Load(one.in_flight, one.warmth, share_of(one.endpoint, endpoints))
            for one in candidates
        }
        return self._replicas[choose(ranked(session_id, endpoints), loads)]

    def _look_at_lineages(self) -> None:
        """Says so when replicas have come to be of several lineages, or of one again."""
        lineages = self.lineages
        mixed = frozenset(lineages) if len(lineages) > 1 else frozenset()
        if mixed and mixed != self._mixed:
            counted = "; ".join(sorted(f"{count} of {one}" for one, count in lineages.items()))
            _logger.warning(
                "%s: its replicas are of several revisions, and a query keeps to one: %s",
                self._name,
                counted,
            )
        elif self._mixed and not mixed:
            _logger.info("%s: its replicas are of one revision again", self._name)
        self._mixed = mixed


def _at(address: Address | None, replicas: Collection[Replica]) -> Replica | None:
    """The replica at this address, if it is among them."""
    return next((one for one in replicas if one.address == address), None)


def _staying(replicas: Collection[Replica]) -> list[Replica]:
    """Those that are not about to end."""
    return [one for one in replicas if not one.endpoint.terminating]


def _worth_asking(replicas: Collection[Replica]) -> list[Replica]:
    """The replicas to ask among these; none if none of them may be.

    What health says may be out of date, so an endpoint said to be down is asked when there is
    no better one. A breaker that is open speaks from experience and is obeyed, but one that is
    open only because siblings were faster yields when no sibling is left.
    """
    allowed = [one for one in replicas if one.allowed] or [one for one in replicas if one.outpaced]
    return [one for one in allowed if one.hopeful] or allowed
