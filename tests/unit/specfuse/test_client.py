"""What callers import. A name that goes away breaks them."""

from __future__ import annotations

import specfuse
from specfuse import client

OF_THE_CLIENT = {
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
}


def test_the_client_has_these_names() -> None:
    assert set(client.__all__) == OF_THE_CLIENT
    assert all(hasattr(client, name) for name in OF_THE_CLIENT)


def test_the_package_has_what_asking_needs() -> None:
    assert set(specfuse.__all__) == {"AsyncClient", "Client"}
    for name in specfuse.__all__:
        assert getattr(specfuse, name) is getattr(client, name)
