"""An answer and how it came about as one JSON object. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from specfuse.client import Answer, RoundCandidate, Segment

Json = dict[str, object]


def answer_report(answer: Answer) -> Json:
    """The answer with its rounds.

    `shares` of a round has the fused share of each distinct proposal under the member that is
    credited with it, the first of its proposers; they sum to 1. The `text`s of the rounds add up to
    the answer's.
    """
    rounds = [_round(segment) for segment in answer.segments]
    if rounds:  # what was held back until the end was held back from the last rounds
        rounds[-1]["text"] = f"{rounds[-1]['text']}{answer.finished.text}"
    return {
        "text": answer.text,
        "rounds": rounds,
        "calls_made": answer.calls_made,
        "calls_avoided": answer.calls_avoided,
        "members": list(answer.members),
        "finish_reason": answer.finish_reason.value,
        "lost": [
            {"member": departure.member, "reason": departure.reason.value}
            for departure in answer.lost
        ],
        "absent": list(answer.absent),
        "resumed": answer.resumed,
        "request_ids": list(answer.request_ids),
    }


def _round(segment: Segment) -> Json:
    return {
        "text": segment.text,
        "winner": segment.winner,
        "shares": _shares(segment.candidates),
        "active": list(segment.active),
        "watched": list(segment.watched),
        "objected": list(segment.objected),
        "milliseconds": round(segment.timings.total_seconds * 1000, 3),
    }


def _shares(candidates: Sequence[RoundCandidate]) -> dict[str, float]:
    return {candidate.proposers[0]: candidate.share for candidate in candidates}
