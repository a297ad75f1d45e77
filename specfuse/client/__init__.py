"""Asking a fuser from Python: `Client`, and `AsyncClient` for asyncio.

    from specfuse import Client

    with Client("127.0.0.1:50050") as client:
        answer = client.generate("What is the capital of France, and 17 plus 25?")
        print(answer.text, answer.calls_made, answer.degraded)

        for event in client.stream("And of Peru?", max_tokens=200, temperature=0.7, seed=1):
            if isinstance(event, Segment | Finished):
                print(event.text, end="", flush=True)

Whatever goes wrong is a `specfuse.errors.SpecFuseError`. If that interrupts an answer of which
something stands (a lost connection, a deadline, too few members left), the error's `resume` says
where, and a new call goes on from there, on any fuser, with nothing lost and nothing repeated:

    try:
        answer = client.generate(question)
    except SpecFuseError as error:
        if error.resume is None:
            raise
        answer = client.generate(question, resume=error.resume)

That is never done by itself: an answer takes as long as it takes, and when to give up on one is the
caller's decision.
"""

from __future__ import annotations

from specfuse.client.asynchronous import AsyncClient
from specfuse.client.blocking import Client
from specfuse.client.query import Message, Prompt, QueryOptions, RawPrompt
from specfuse.client.results import (
    Answer,
    CallCounts,
    Departure,
    DepartureReason,
    Ensemble,
    Event,
    Finished,
    FinishReason,
    Judgement,
    RoundCandidate,
    RoundTimings,
    Segment,
    Started,
)
from specfuse.errors import ResumePoint
from specfuse.rpc.tls import ClientTls

__all__ = [
    "Answer",
    "AsyncClient",
    "CallCounts",
    "Client",
    "ClientTls",
    "Departure",
    "DepartureReason",
    "Ensemble",
    "Event",
    "FinishReason",
    "Finished",
    "Judgement",
    "Message",
    "Prompt",
    "QueryOptions",
    "RawPrompt",
    "ResumePoint",
    "RoundCandidate",
    "RoundTimings",
    "Segment",
    "Started",
]
