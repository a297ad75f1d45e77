"""How much there was in the last minute. Knows no clock: every question brings the time along."""

from __future__ import annotations

from collections import deque
from typing import Final

WINDOW_SECONDS: Final = 60.0


class Window:
    """Amounts and when they came, no longer than they count.

    If nothing is added but when `wait` is 0, no 60 seconds have more than the limit, wherever they
    begin. Times must not go back.
    """

    def __init__(self) -> None:
        self._amounts: deque[tuple[float, int]] = deque()
        self._total = 0

    def add(self, now: float, amount: int) -> None:
        """Adds an amount, whether there is room for it or not."""
        self._forget(now)
        if amount:
            self._amounts.append((now, amount))
            self._total += amount

    def total(self, now: float) -> int:
        """The amounts of the last 60 seconds."""
        self._forget(now)
        return self._total

    def wait(self, now: float, limit: int) -> float:
        """Seconds until less than `limit` is left, which is at least 1; 0 if that is so now."""
        left = self.total(now)
        for at, amount in self._amounts:
            if left < limit:
                break
            left -= amount
            if left < limit:
                return WINDOW_SECONDS - (now - at)
        return 0.0

    def _forget(self, now: float) -> None:
        while self._amounts and now - self._amounts[0][0] >= WINDOW_SECONDS:
            self._total -= self._amounts.popleft()[1]
