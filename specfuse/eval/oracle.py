"""What the best possible choice among members' candidates would reach.

Whoever knows the right answer commits only candidates that it goes on with. All ways there are
searched, so where no way leads to the end, no choice would have: whatever decides, by votes or not,
is between what it reaches and this.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Draft:
    """A member's candidate; `finished` if the answer ends with it."""

    text: str
    finished: bool


@dataclass(frozen=True, slots=True)
class Route:
    """The committed segments of the longest way; `complete` if they are the whole answer.

    `drafts` counts the candidates that were asked for.
    """

    segments: tuple[str, ...]
    complete: bool
    drafts: int


Propose = Callable[[tuple[str, ...]], Awaitable[Sequence[Draft]]]
"""Asks all members for their candidates after these committed segments."""


async def best_route(answer: str, propose: Propose) -> Route:
    """Searches for a way to the answer, space around which does not count; longest first.

    Of ways that lead to the same text only the first is followed.
    """
    waiting: list[tuple[str, ...]] = [()]
    seen = {""}
    longest: tuple[str, ...] = ()
    asked = 0
    while waiting:
        route = waiting.pop()
        longest = max(longest, route, key=_length)
        drafts = await propose(route)
        asked += len(drafts)
        for draft in sorted(drafts, key=lambda one: len(one.text)):
            text = "".join(route) + draft.text
            if draft.finished and text.strip() == answer:
                return Route((*route, draft.text), complete=True, drafts=asked)
            if not draft.finished and text not in seen and _begins(text, answer):
                seen.add(text)
                waiting.append((*route, draft.text))
    return Route(longest, complete=False, drafts=asked)


def _begins(text: str, answer: str) -> bool:
    """Whether the answer goes on from the text; space alone is no beginning, or it had no end."""
    begun = text.lstrip()
    return bool(begun) and answer.startswith(begun)


def _length(route: Sequence[str]) -> int:
    return sum(map(len, route))
