"""What can be wrong with an API server, and how long to leave it alone then."""

from __future__ import annotations

import random
from dataclasses import dataclass


class Trouble(Exception):
    """It could not be asked, or did not answer as it should. `kind` is a word for logs.

    `after_seconds` is what it wants to be left alone for, if it says so.
    """

    def __init__(self, kind: str, text: str, after_seconds: float = 0.0) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text
        self.after_seconds = after_seconds


class Expired(Trouble):
    """What was known is too old to go on from: everything is to be listed anew."""

    def __init__(self) -> None:
        super().__init__("expired", "what is known is too old to go on from (410)")


@dataclass(slots=True)
class Pauses:
    """Pauses that double from `shortest` to `longest` seconds until `over` says that all is well.

    They are random, between half and all of that, so that not all fusers ask at once.
    """

    shortest: float
    longest: float
    _next: float = 0.0

    def next(self, at_least: float = 0.0) -> float:
        """How many seconds to wait now; no more than `longest`."""
        full = max(self._next, self.shortest)
        self._next = min(2.0 * full, self.longest)
        drawn = full * random.uniform(0.5, 1.0)  # noqa: S311 (not a secret)
        return min(max(drawn, at_least), self.longest)

    def over(self) -> None:
        """The next pause is a short one again."""
        self._next = 0.0
