"""Callers that keep asking with the real client, and write down what they asked and got."""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from functools import partial
from typing import Literal

from specfuse.client import Answer, AsyncClient, Event, Segment
from specfuse.errors import SpecFuseError
from tests.robustness.history import Answered, Failed, History

CALLERS = 8


@asynccontextmanager
async def traffic(
    addresses: Sequence[str],
    questions: Sequence[str],
    *,
    seconds: float,
    ensemble: str = "",
    open_client: Callable[[Sequence[str]], AsyncClient] = AsyncClient,
) -> AsyncIterator[History]:
    """Callers ask until the context is left; then they finish what they are at.

    Each question is given so many seconds. They ask an ensemble, if there are several. Every caller
    has connections of its own. They begin with different addresses, so that every fuser has
    callers, and with different questions.
    """
    history = History()
    over = asyncio.Event()
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        for number in range(CALLERS):
            turn = number % len(addresses)
            client = open_client([*addresses[turn:], *addresses[:turn]])
            await stack.enter_async_context(client)
            asking = itertools.islice(itertools.cycle(questions), number, None)
            asks = partial(ask, client, history=history, seconds=seconds, ensemble=ensemble)
            group.create_task(_keep_asking(asks, asking, over))
        try:
            yield history
        finally:
            over.set()


async def _keep_asking(
    asks: Callable[[str], Awaitable[None]], questions: Iterator[str], over: asyncio.Event
) -> None:
    while not over.is_set():
        await asks(next(questions))


async def ask(
    client: AsyncClient,
    question: str,
    history: History,
    seconds: float,
    resume: Literal["auto", "never"] = "auto",
    ensemble: str = "",
) -> None:
    """Asks one question, in a session of its own, and records what comes of it."""
    asked = history.ask(question, time.monotonic(), seconds)
    events: list[Event] = []
    try:
        stream = client.stream(
            question,
            ensemble=ensemble,
            timeout=seconds,
            resume=resume,
            session_id=uuid.uuid4().hex,
        )
        async with aclosing(stream):
            async for event in stream:
                events.append(event)  # noqa: PERF401 (what came before an error counts)
        history.end(_answered(asked.call, Answer.of(events)))
    except SpecFuseError as error:
        history.end(_failed(asked.call, error, events))


def _answered(call: int, answer: Answer) -> Answered:
    return Answered(
        call=call,
        at=time.monotonic(),
        text=answer.text,
        segments=tuple(one.segment for one in answer.segments),
        degraded=answer.degraded,
        lost=tuple(one.member for one in answer.lost),
        missed=answer.absent,
        absent=frozenset().union(*(_absent(one, answer.members) for one in answer.segments)),
        resumed=answer.resumed,
    )


def _failed(call: int, error: SpecFuseError, events: Iterable[Event]) -> Failed:
    segments = tuple(one.segment for one in events if isinstance(one, Segment))
    resume = None if error.resume is None else error.resume.committed_segments
    return Failed(call, time.monotonic(), type(error).__name__, segments, resume)


def _absent(segment: Segment, members: Iterable[str]) -> set[str]:
    """The members that do not show in what came of the round. In these ensembles nobody leaves."""
    proposed = {member for one in segment.candidates for member in one.proposers}
    judged = {judgement.verifier for one in segment.candidates for judgement in one.judgements}
    there = proposed | {*segment.watched}
    heard = there & judged if judged else there
    return set(members) - heard
