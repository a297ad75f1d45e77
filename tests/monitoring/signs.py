"""What a stranger sees on the boards: in which panel something stands out, and what.

Chosen are the scripted members, as how long the others take is up to the machine. A panel's series
are called as Grafana calls them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from tests.monitoring.boards import everything, filled
from tests.monitoring.shape import PLACES
from tests.monitoring.watched import WINDOW, Watched
from tests.robustness import questions


@dataclass(frozen=True, slots=True)
class Sign:
    """A panel, and which of its series stand out, these and no others."""

    panel: str
    series: frozenset[str]
    stands_out: Callable[[float], bool]

    async def is_there(self, watched: Watched) -> bool:
        """Whether it is to be seen now."""
        return await self._standing_out(watched) == self.series

    async def _standing_out(self, watched: Watched) -> set[str]:
        (panel,) = (one for one in everything() if one.title == self.panel)
        return {
            re.sub(r"{{(\w+)}}", lambda found, of=labels: of.get(found[1], ""), legend)
            for expr, legend in panel.queries
            for labels, value in await watched.prometheus.query(_of_scripted_members(expr))
            if not math.isnan(value) and self.stands_out(value)
        }


def _of_scripted_members(expr: str) -> str:
    return filled(expr.replace("$member", "|".join(questions.MEMBERS)), WINDOW, "1m")


SLOW = Sign(
    "Slowest member", frozenset({"gamma propose", "gamma score"}), lambda seconds: seconds > 1
)
DEAD = Sign("Reachable", frozenset({"gamma"}), lambda reached: reached == 0)
OVERLOADED = Sign("Requests now", frozenset({"in flight"}), lambda requests: requests >= PLACES)
LIMITED = Sign("Part at the limit", frozenset({"mail"}), lambda share: share > 0.05)
