"""What the scripted models are asked, and what each of them knows about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

MEMBERS = ("alpha", "beta", "gamma")

_ANSWERS = {
    "alpha": (
        "The capital of Greece is Athens, a city under a hill of marble. Whoever goes there in"
        " summer should start early, for by noon the stones are too hot to sit on."
    ),
    "beta": (
        "Adding seventeen to twenty five you get forty two, which is the number of days that the"
        " ferry needs for its whole round. It leaves the harbour again at seven."
    ),
    "gamma": (
        "House is casa in that language, and home is hogar. The first one has walls and a roof,"
        " the second one is where somebody waits for you in the evening."
    ),
}
"""What each member knows. The others are unsure about it and say something else."""

_SUBJECTS = {member: f"what {member} knows" for member in MEMBERS}

QUESTIONS = tuple(f"Tell me {subject}, please." for subject in _SUBJECTS.values())
"""A question for each member. Fused, the member that knows is believed."""

NEVER = "Never mind."
"""A question that no member ever answers."""

LONG = "Tell me all."
"""A question with an answer that is larger than what a connection holds, the same from everyone."""

_LONG_ANSWER = f"{'a' * 249} " * 2048

BRIEF = "Yes or no?"
"""A question that the first member answers with a word, and the others at length."""

_AT_LENGTH = "Well, that depends on so much that it takes a while to say."

WAVERING = "Tell me what you doubt."
"""A question that only the first member knows about, and is sure of in every other segment."""

_WAVERING_SEGMENTS = 8
_WAVERING_WORDS = " ".join(f"word{number}" for number in range(5 * _WAVERING_SEGMENTS))

_SURE = {"own_probability": 0.9, "other_probability": 0.05}
_UNSURE = {"own_probability": 0.4, "other_probability": 0.3}
_NEVER_OTHERS = {"other_probability": 0.05}


def script(member: str, seconds: float = 0.01) -> dict[str, Any]:
    """The section of a scripted member that takes so long over each call."""
    return {"backend": "scripted", "scripted": {"lines": list(_lines(member, seconds))}}


def _lines(member: str, seconds: float) -> Iterator[dict[str, Any]]:
    yield {"when": NEVER, "hangs": True}
    yield {"when": LONG, "answer": _LONG_ANSWER}
    for expert, subject in _SUBJECTS.items():
        answer = _ANSWERS[expert] if expert == member else f"I am {member} and do not know."
        beliefs = _SURE if expert == member else _UNSURE
        yield {"when": subject, "answer": answer, "seconds": seconds} | beliefs
    yield from _brief(member)
    yield from _wavering(member)
    yield {"answer": f"{member} has nothing to say."}


def _brief(member: str) -> Iterator[dict[str, Any]]:
    knows = member == MEMBERS[0]
    beliefs = _SURE if knows else _UNSURE
    yield {"when": BRIEF, "answer": "Yes." if knows else _AT_LENGTH} | beliefs


def _wavering(member: str) -> Iterator[dict[str, Any]]:
    if member != MEMBERS[0]:
        answer = f"{member} waits for what the others say about it."
        yield {"when": WAVERING, "answer": answer, "own_probability": 0.05} | _NEVER_OTHERS
        return
    for segments in reversed(range(_WAVERING_SEGMENTS)):
        sureness = 0.9 if segments % 2 == 0 else 0.5
        line = {"when": WAVERING, "answer": _WAVERING_WORDS, "after_segments": segments}
        yield line | {"own_probability": sureness} | _NEVER_OTHERS


def ensemble(members: Iterable[str] = MEMBERS) -> dict[str, Any]:
    """An ensemble whose answer to a question depends on nothing but who answers.

    Weights and exits are learnt in a query, and begin anew where it is resumed: they are left out.
    """
    return {
        "members": list(members),
        "segment_tokens": 5,
        "exit": {"policy": "none"},
        "quorum": 2,
        "straggler_grace_seconds": 0.3,
        "round_timeout_seconds": 3.0,
    }
