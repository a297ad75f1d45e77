"""Answers one query over HTTP, whole or as a stream of server-sent events.

The status of a stream is held until the first round is committed, so that an error by then is one
of HTTP, which callers understand better. Later ones are an event, as to just close the connection
would look like the end of the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry.trace import get_current_span

from fuser_service.doors.openai.errors import Standing, of_service
from fuser_service.doors.openai.feed import Feed
from fuser_service.doors.openai.wire import Form, Progress
from fuser_service.fusion.events import Event, Finished, RoundCommitted
from specfuse.deadline import Deadline
from specfuse.errors import DeadlineExceeded, ShuttingDown, SpecFuseError
from specfuse.http.bodies import Receive, Send
from specfuse.observability.tracing.outcomes import failed

_PING: Final = b": ping\n\n"
_DONE: Final = b"data: [DONE]\n\n"
_FAREWELL_SECONDS: Final = 1.0
"""How long a caller may take to read why its stream ends."""

_STREAM_HEADERS: Final = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # proxies of nginx's kind hand events over at once
}


@dataclass(frozen=True, slots=True)
class Manner:
    """How an answer is sent."""

    streams: bool
    includes_usage: bool
    silent_seconds: float
    """How long a stream may be silent."""
    stall_seconds: float
    """How long a caller may leave what it is sent unread."""
    headers: Mapping[str, str]
    names: Mapping[str, str]
    """What fields are called in this request."""


class Failed(Exception):
    """The query failed before anything was sent; the answer is the error alone."""

    def __init__(self, error: SpecFuseError, standing: Standing) -> None:
        super().__init__(error.message)
        self.error = error
        self.standing = standing


class Conversation:
    """One query, its events and the caller that waits for them."""

    def __init__(
        self, feed: Feed, progress: Progress, form: Form, deadline: Deadline, manner: Manner
    ) -> None:
        self._feed = feed
        self._progress = progress
        self._form = form
        self._deadline = deadline
        self._manner = manner
        self._has_begun = False

    async def hold(self, receive: Receive, send: Send) -> None:
        """Answers. If the caller goes away, or this task is cancelled, all work ends.

        A cancelled task says first where the answer stands.

        Raises:
            Failed: there is no answer, and nothing was sent.
        """
        async with self._feed:
            work = self._stream(send) if self._manner.streams else self._answer(send)
            await self._unless_gone(work, receive)

    async def _unless_gone(self, work: Coroutine[Any, Any, None], receive: Receive) -> None:
        working = asyncio.create_task(work)
        leaving = asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._feed.end_with(ShuttingDown("the service shuts down; ask again, or resume"))
            await asyncio.wait({working})
        finally:
            leaving.cancel()
            working.cancel()
            await asyncio.wait({working, leaving})
        if not working.cancelled():
            working.result()

    async def _answer(self, send: Send) -> None:
        """Sends the whole answer at once."""
        try:
            while self._progress.finished is None:
                self._note(await self._feed.next())
        except SpecFuseError as error:
            raise Failed(error, self._standing) from error
        body = self._form.whole(self._progress)
        headers = {"content-type": "application/json", "content-length": str(len(body))}
        await self._begin(send, headers)
        await self._send(send, body, more=False)

    async def _stream(self, send: Send) -> None:
        """Sends the answer as it is written."""
        try:
            while self._progress.finished is None:
                event = await self._feed.next(self._manner.silent_seconds)
                self._note(event)
                if event is None or isinstance(event, RoundCommitted | Finished):
                    await self._begin(send, _STREAM_HEADERS)
                    await self._send(send, self._said(event))
            await self._send(send, _DONE, more=False)
        except SpecFuseError as error:
            if not self._has_begun:
                raise Failed(error, self._standing) from error
            failed(get_current_span(), error)  # what has begun as a success is none
            self._deadline = Deadline.after(_FAREWELL_SECONDS)
            response = of_service(error, self._standing)
            await self._send(send, _event(response.body), more=False)

    def _said(self, event: Event | None) -> bytes:
        """The events of a stream that tell an event of the query."""
        if isinstance(event, RoundCommitted):
            return _event(self._form.text(event.round.text, self._progress.rounds[-1]))
        if isinstance(event, Finished):
            return self._ending(event)
        return _PING

    def _ending(self, finished: Finished) -> bytes:
        said = b""
        if finished.text or not self._progress.rounds:
            said += _event(self._form.text(finished.text, None))
        said += _event(self._form.end(self._progress))
        if self._manner.includes_usage:
            said += _event(self._form.usage(self._progress.usage))
        return said

    def _note(self, event: Event | None) -> None:
        if event is not None:
            self._progress.add(event)

    @property
    def _standing(self) -> Standing:
        progress = self._progress
        return Standing(self._manner.names, progress.started is not None, progress.resume)

    async def _begin(self, send: Send, headers: Mapping[str, str]) -> None:
        if self._has_begun:
            return
        self._has_begun = True
        encoded = [
            (name.encode(), value.encode("latin-1"))
            for name, value in {**headers, **self._manner.headers}.items()
        ]
        await send({"type": "http.response.start", "status": 200, "headers": encoded})

    async def _send(self, send: Send, body: bytes, *, more: bool = True) -> None:
        """Sends on, to a caller that reads.

        Raises:
            DeadlineExceeded: the time is up, or the caller has read nothing for too long.
        """
        try:
            limit = self._deadline.within(self._manner.stall_seconds)
            async with asyncio.timeout(limit.timeout):
                await send({"type": "http.response.body", "body": body, "more_body": more})
        except TimeoutError as error:
            raise DeadlineExceeded("the caller does not read what it is sent") from error


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _event(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"
