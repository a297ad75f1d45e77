"""A circuit breaker: an endpoint that keeps failing is left alone, then tried with one call."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """When a breaker opens, and for how long.

    It opens after `failures` failures in a row, for `open_seconds`; every failed trial doubles
    that, up to `longest_open_seconds`.
    """

    failures: int = 3
    open_seconds: float = 0.5
    longest_open_seconds: float = 30.0


class Breaker:
    """The state of one endpoint: closed (calls pass), open (none do), or on trial (one does).

    `outpaced` says that it is open, or on trial, because siblings were faster.
    """

    _failures: int
    _opened: bool
    _late: bool

    def __init__(
        self, rules: BreakerRules = BreakerRules(), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rules = rules
        self._clock = clock
        self._close()

    @property
    def allows(self) -> bool:
        """Whether a call may be made now."""
        if not self._opened:
            return True
        return not self._on_trial and self._clock() >= self._open_until

    @property
    def outpaced(self) -> bool:
        """Whether only lateness keeps calls away: better a late answer than none."""
        return self._opened and self._late

    def started(self) -> None:
        """A call that was allowed begins. `succeeded`, `failed` or `abandoned` must end it."""
        self._on_trial = self._opened

    def succeeded(self) -> None:
        """The endpoint answered, even if with an error about the request."""
        self._close()

    def failed(self) -> None:
        """The endpoint could not be reached, or would not serve."""
        self._failed(late=False)

    def late(self) -> None:
        """A sibling that was asked the same thing later answered first. The call is abandoned."""
        self._failed(late=True)

    def _failed(self, *, late: bool) -> None:
        self._failures += 1
        trial_failed, self._on_trial = self._on_trial, False
        if trial_failed or (not self._opened and self._failures >= self._rules.failures):
            self._open()
            self._late = late

    def abandoned(self) -> None:
        """The call was given up before it said anything about the endpoint."""
        self._on_trial = False

    def _close(self) -> None:
        self._failures = 0
        self._late = False
        self._opened = False
        self._on_trial = False
        self._open_until = 0.0
        self._next_open_seconds = self._rules.open_seconds

    def _open(self) -> None:
        self._opened = True
        self._open_until = self._clock() + self._next_open_seconds
        doubled = 2.0 * self._next_open_seconds
        self._next_open_seconds = min(doubled, self._rules.longest_open_seconds)
