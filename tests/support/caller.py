"""Both clients as one, so that one suite tests them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, closing
from typing import Any

from specfuse.client import Answer, AsyncClient, Client, Ensemble, Event
from tests.support.fuser_door import ScriptedFuser, open_door


class Caller:
    """The one behaviour of two clients; the blocking one works in a thread."""

    def __init__(
        self, kind: type[Client | AsyncClient], target: str | Sequence[str], **options: Any
    ) -> None:
        self.client = kind(target, **options)

    async def generate(self, prompt: str = "Count.", **options: Any) -> Answer:
        return await self._run(lambda client: client.generate(prompt, **options))

    async def ensembles(self, **options: Any) -> tuple[Ensemble, ...]:
        return await self._run(lambda client: client.ensembles(**options))

    async def close(self) -> None:
        await self._run(lambda client: client.close())

    async def take(self, count: int, prompt: str = "Count.", **options: Any) -> list[Event]:
        """The first events of a stream, which is then closed; -1 takes all."""
        stream = self.client.stream(prompt, **options)
        if isinstance(self.client, Client):
            return await asyncio.to_thread(take_blocking, stream, count)
        events = []
        async with aclosing(stream):
            async for event in stream:
                events.append(event)
                if len(events) == count:
                    break
        return events

    async def _run(self, work: Callable[[Any], Any]) -> Any:
        if isinstance(self.client, Client):
            return await asyncio.to_thread(work, self.client)
        return await work(self.client)


def take_blocking(stream: Any, count: int) -> list[Event]:
    events: list[Event] = []
    with closing(stream):
        for event in stream:
            events.append(event)
            if len(events) == count:
                break
    return events


@asynccontextmanager
async def asking(kind: type, fuser: ScriptedFuser, **options: Any) -> AsyncIterator[Caller]:
    async with open_door(fuser) as server:
        caller = Caller(kind, server.address, **options)
        try:
            yield caller
        finally:
            await caller.close()
