"""Scripted members, and fusers that ask all of them for everything, as settings.

Whatever the default policy is, here each round has a proposal and a score of every member, which
never agree; so an answer is known beforehand, and so is what it takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.fuser import ENSEMBLE, WORDS_A_SEGMENT, Shape

MANY = 4096
"""More calls and queries at a time than any bench makes."""
_PATIENCE_SECONDS = 600.0


def model_name(number: int) -> str:
    """What a member is called."""
    return f"model{number}"


def model_settings(
    shape: Shape, number: int, lines: Sequence[Mapping[str, object]], places: int = MANY
) -> dict[str, Any]:
    """A replica of a member, for so many calls at once; its lines are laid over its answer."""
    answer = {"answer": shape.answer_of(number)}
    script = {"lines": [answer | line for line in lines], "context_window": 1 << 20}
    limits = {"running_calls": places, "waiting_calls": MANY}
    return {
        "name": model_name(number),
        "backend": "scripted",
        "scripted": script,
        "limits": limits,
    }


def fuser_settings(shape: Shape, members: Sequence[Sequence[str]]) -> dict[str, Any]:
    """A fuser of members, each with the addresses of its replicas, that waits for all of them."""
    names = [model_name(number) for number in range(len(members))]
    ensemble = {
        "members": names,
        "vote": "segments",
        "exit": {"policy": "none"},
        "segment_tokens": WORDS_A_SEGMENT,
        "max_tokens": shape.words,
        "max_tokens_limit": shape.words,
        "straggler_grace_seconds": _PATIENCE_SECONDS,
        "request_timeout_seconds": _PATIENCE_SECONDS,
    }
    return {
        "members": {
            name: {"endpoints": [*addresses]}
            for name, addresses in zip(names, members, strict=True)
        },
        "ensembles": {ENSEMBLE: ensemble},
        "limits": {"requests_in_flight": MANY},
    }
