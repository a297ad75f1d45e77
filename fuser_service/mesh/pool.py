"""The replicas of a member, and which of them a call goes to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence

import grpc

from fuser_service.mesh.balancing import Load, Pins, choose, ranked, share_of
from fuser_service.mesh.discovery.port import Address, Endpoint
from fuser_service.mesh.replica import Replica


class Pool:
    """Replicas, by address. `connect` opens a channel without waiting for the other side."""

    def __init__(self, connect: Callable[[Address], grpc.aio.Channel]) -> None:
        self._connect = connect
        self._replicas: dict[Address, Replica] = {}
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
    def awake(self) -> bool:
        """Whether some replica says that it serves."""
        return any(replica.serving for replica in self._replicas.values())

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
                self._replicas[endpoint.address] = Replica(endpoint, channel, changed=self._changed)
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

    def pick(self, session_id: str, without: Collection[Address]) -> Replica | None:
        """The replica for a session among those not excluded; None if there is none to ask.

        A session stays where it is, even if that is about to end, for as long as it can be asked.
        """
        others = [one for one in self._replicas.values() if one.address not in without]
        pinned = self._pins.get(session_id)
        stays = next((one for one in _worth_asking(others) if one.address == pinned), None)
        chosen = stays or self._chosen(session_id, _worth_asking(_staying(others)))
        if chosen is not None:
            self.pin(session_id, chosen)
        return chosen

    def pin(self, session_id: str, replica: Replica) -> None:
        """Has the session's next calls go to this replica."""
        self._pins.pin(session_id, replica.address)

    async def close(self) -> None:
        """Closes all channels; calls in flight are cancelled."""
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        await asyncio.gather(*(replica.close(grace=0) for replica in self._replicas.values()))
        self._replicas.clear()

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

    def _changed(self) -> None:
        for told in self._told:
            told()


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
