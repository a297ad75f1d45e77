"""Points in time by which work must be done, passed on explicitly: Python gRPC propagates none."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Deadline:
    """A point on the monotonic clock, in seconds; infinite if the caller set none."""

    at: float

    @classmethod
    def after(cls, seconds: float | None) -> Deadline:
        """The deadline `seconds` from now; None means never."""
        return cls(math.inf if seconds is None else time.monotonic() + seconds)

    @classmethod
    def never(cls) -> Deadline:
        """A deadline that does not pass."""
        return cls(math.inf)

    @property
    def remaining(self) -> float:
        """Seconds left, never negative; infinite if there is no deadline."""
        return max(0.0, self.at - time.monotonic())

    @property
    def timeout(self) -> float | None:
        """Seconds left as gRPC and asyncio take them: None if there is no deadline."""
        return None if math.isinf(self.at) else self.remaining

    @property
    def passed(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() >= self.at

    def within(self, seconds: float) -> Deadline:
        """The earlier of this deadline and `seconds` from now."""
        return min(self, Deadline.after(seconds))
