"""When an interrupted answer is gone on with, and after which pause. Pure.

What may pass is tried again: a fuser that cannot be reached, that goes away, that has lost too many
members, or that had no room for the query. Everything else is an answer to the query, and another
attempt would get the same one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from specfuse.errors import Overloaded, SpecFuseError, Unavailable

ATTEMPTS: Final = 5
"""Most streams in a row, for each address, that bring nothing new."""

SWITCH_SECONDS: Final = 0.05
"""Longest pause before an address is tried that has not just failed: callers move one by one."""

FIRST_PAUSE_SECONDS: Final = 0.25
"""Longest pause once every address has failed; it doubles every time that happens again."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How many streams in a row brought nothing new, and how many addresses there are."""

    addresses: int = 1
    in_vain: int = 0

    def after(self, failure: SpecFuseError, *, admitted: bool, advanced: bool) -> Retries | None:
        """The count once another stream failed; None if no other is worth trying.

        Args:
            failure: What ended the stream.
            admitted: Whether the fuser had taken the query on.
            advanced: Whether at least one segment was committed: then counting begins anew.
        """
        if not _may_pass(failure, admitted=admitted):
            return None
        if advanced:
            return replace(self, in_vain=0)
        in_vain = self.in_vain + 1
        return replace(self, in_vain=in_vain) if in_vain < ATTEMPTS * self.addresses else None

    def pause(self, draw: float) -> float:
        """Seconds before the next stream: between half the longest and all of it, as `draw` says.

        `draw` is a random number from 0 to 1, so that callers who lost the same fuser do not all
        come back at once.
        """
        return self._longest_pause * (1 + draw) / 2

    @property
    def _longest_pause(self) -> float:
        times_round, others = divmod(self.in_vain, self.addresses)
        if others or not times_round:
            return SWITCH_SECONDS
        return float(FIRST_PAUSE_SECONDS * 2 ** (times_round - 1))


def _may_pass(failure: SpecFuseError, *, admitted: bool) -> bool:
    """Whether the same query may fare better soon, or elsewhere."""
    return isinstance(failure, Unavailable) or (isinstance(failure, Overloaded) and not admitted)
