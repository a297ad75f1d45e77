"""Both clients as one, so that one suite tests them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, closing
from functools import partial
from typing import Any, Final, Self

from specfuse.client import Answer, AsyncClient, Client, Ensemble, Event
from tests.support.fuser_door import ScriptedFuser, open_door

PATIENCE_SECONDS: Final = 20.0


class Caller:
    """The one behaviour of two clients; the blocking one works in a thread."""

    def __init__(
        self, kind: type[Client | AsyncClient], target: str | Sequence[str], **options: Any
    ) -> None:
        self.client = kind(target, **options)
        self._heard = asyncio.Semaphore(0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

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
            loop = asyncio.get_running_loop()
            hear = partial(loop.call_soon_threadsafe, self._heard.release)
            return await asyncio.to_thread(take_blocking, stream, count, hear)
        events = []
        async with aclosing(stream):
            async for event in stream:
                events.append(event)
                self._heard.release()
                if len(events) == count:
                    break
        return events

    async def heard(self, count: int) -> None:
        """Returns once `take` has had that many events.

        What a server has sent is lost if it dies before the caller has read it: whoever tests what
        a caller makes of a death in mid-answer waits for this, not for the server to have sent.
        """
        async with asyncio.timeout(PATIENCE_SECONDS):
            for _ in range(count):
                await self._heard.acquire()

    async def _run(self, work: Callable[[Any], Any]) -> Any:
        if isinstance(self.client, Client):
            return await asyncio.to_thread(work, self.client)
        return await work(self.client)


def take_blocking(stream: Any, count: int, hear: Callable[[], object]) -> list[Event]:
    events: list[Event] = []
    with closing(stream):
        for event in stream:
            events.append(event)
            hear()
            if len(events) == count:
                break
    return events


@asynccontextmanager
async def asking(kind: type, fuser: ScriptedFuser, **options: Any) -> AsyncIterator[Caller]:
    async with open_door(fuser) as server, Caller(kind, server.address, **options) as caller:
        yield caller
