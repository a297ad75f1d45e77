"""How much may be asked beyond what is needed.

Second calls help while few are made: hedged when one replica is slow, repeated when one connection
breaks. When everything is slow or broken they are the load that keeps it so. A budget (as in gRPC's
and Finagle's retry budgets) grants a share of the calls made, and no more.
"""

from __future__ import annotations

SHARE = 0.1
"""Second calls per call."""

MOST_SAVED = 10.0
"""Second calls that quiet times save up; also what a budget begins with."""


class Budget:
    """Second calls that may still be made."""

    def __init__(self) -> None:
        self._saved = MOST_SAVED

    def called(self) -> None:
        """A call is made, which earns its share of a second one."""
        self._saved = min(MOST_SAVED, self._saved + SHARE)

    @property
    def left(self) -> bool:
        """Whether a second call may be made now."""
        return self._saved >= 1.0

    def spend(self) -> None:
        """A second call, of which there was one left, is made."""
        self._saved -= 1.0
