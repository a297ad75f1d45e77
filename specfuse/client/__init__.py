"""Asking a fuser from Python: `Client`, and `AsyncClient` for asyncio.

    from specfuse import Client

    with Client("127.0.0.1:50050") as client:
        answer = client.generate("What is the capital of France, and 17 plus 25?")
        print(answer.text, answer.calls_made, answer.degraded)

        for event in client.stream("And of Peru?", max_tokens=200, temperature=0.7, seed=1):
            if isinstance(event, Segment | Finished):
                print(event.text, end="", flush=True)

Whatever goes wrong is a `specfuse.errors.SpecFuseError`.

A fuser that asks who calls wants an API key: `Client("fuser:50050", tls=..., api_key="sf-...")`, or
the variable SPECFUSE_API_KEY. It is never sent to another machine in plain text.

An interrupted answer (a lost connection, a fuser that ends, too few members left) is continued on
another fuser, or on the same one once it is back; nothing is lost and nothing repeated. Give the
addresses of all fusers for that; a name that has several addresses counts as all of them:

    client = Client(["fuser-a:50050", "fuser-b:50050"])

The answer's events are then those of one answer, and its `resumed` says how often it happened. It
goes on while segments come, and otherwise ends after some seconds of trying, or when the `timeout`
that the caller gave is up, which is for all attempts together. A fuser that has no room is asked
again too; what would go wrong again is raised at once, and so is whatever makes the answer itself
doubtful. A seed that is left out is 0, so a sampled answer draws what it would have drawn. But
weights and exits start afresh: with `weighting="uniform"` and `exit_policy="none"` the answer is as
it would have been without the interruption, with others it may go on in other words.

If that comes to an end, or `resume="never"` forbids it, the error's `resume` says where the answer
stands, and a new call goes on from there, on any fuser:

    try:
        answer = client.generate(question)
    except SpecFuseError as error:
        if error.resume is None:
            raise
        answer = client.generate(question, resume=error.resume)

What an operator needs to look a query up, in the fuser's accounts and traces, is what the fuser
calls it: `Answer.request_ids`, `Started.request_id` of a stream, and an error's `request_ids`.
There is one for each stream of the answer, so more than one if it was interrupted; the last is of
the one that ended it. There is none if no fuser took the call.
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
