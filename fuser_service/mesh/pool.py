"""The replicas of a member, and which of them a call goes to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

import grpc

from fuser_service.mesh.balancing import Load, Pins
from fuser_service.mesh.discovery.port import Endpoint
from fuser_service.mesh.replica import Replica


class Pool:
    """Replicas, by endpoint. `connect` opens a channel without waiting for the other side."""

    def __init__(self, connect: Callable[[Endpoint], grpc.aio.Channel]) -> None:
        self._connect = connect
        self._replicas: dict[Endpoint, Replica] = {}
        self._pins = Pins()
        self._retiring: set[asyncio.Task[None]] = set()
        self._told: list[Callable[[], None]] = []

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Where the replicas are."""
        return tuple(self._replicas)

    @property
    def ready(self) -> bool:
        """Whether some replica says that it serves, and is not known to fail."""
        return any(replica.ready for replica in self._replicas.values())

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
            if endpoint not in self._replicas:
                channel = self._connect(endpoint)
                self._replicas[endpoint] = Replica(endpoint, channel, changed=self._changed)
        for endpoint in self._replicas.keys() - set(endpoints):
            task = asyncio.create_task(self._replicas.pop(endpoint).close())
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)
        self._changed()

    def reconnect(self, connect: Callable[[Endpoint], grpc.aio.Channel]) -> None:
        """Opens all channels anew, and new ones from now on, by `connect`. No call is dropped."""
        self._connect = connect
        for endpoint, replica in self._replicas.items():
            replica.reconnect(connect(endpoint))

    def pick(self, session_id: str, without: Collection[Endpoint]) -> Replica | None:
        """The replica for a session among those not excluded; None if there is none to ask.

        What health says may be out of date, so an endpoint said to be down is asked when there is
        no better one. A breaker that is open speaks from experience and is obeyed, but one that is
        open only because siblings were faster yields when no sibling is left.
        """
        others = [one for one in self._replicas.values() if one.endpoint not in without]
        allowed = [one for one in others if one.allowed] or [one for one in others if one.outpaced]
        candidates = [one for one in allowed if one.hopeful] or allowed
        if not candidates:
            return None
        loads = {one.endpoint: Load(one.in_flight, one.warmth) for one in candidates}
        return self._replicas[self._pins.pick(session_id, loads)]

    def pin(self, session_id: str, replica: Replica) -> None:
        """Has the session's next calls go to this replica."""
        self._pins.pin(session_id, replica.endpoint)

    async def close(self) -> None:
        """Closes all channels; calls in flight are cancelled."""
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        await asyncio.gather(*(replica.close(grace=0) for replica in self._replicas.values()))
        self._replicas.clear()

    def _changed(self) -> None:
        for told in self._told:
            told()
