"""What is known of an endpoint: its last scrape, and what it did since the one before. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from specfuse.cli.top.intervals import Interval, between
from specfuse.cli.top.scrapes import Scrape
from specfuse.cli.top.targets import Target


@dataclass(frozen=True, slots=True)
class History:
    """An endpoint as it was seen so far.

    `trouble` says what kept it from being read the last time, like "is down: ..."; then there is no
    interval, nor is there one until it was read twice since.
    """

    target: Target
    last: Scrape | None = None
    interval: Interval | None = None
    trouble: str = ""

    def seen(self, scrape: Scrape) -> History:
        """It was read once more, later than before."""
        interval = None if self.last is None else between(self.last, scrape)
        return History(self._named(scrape), scrape, interval)

    def lost(self, trouble: str) -> History:
        """It could not be read."""
        return History(self.target, trouble=trouble)

    def _named(self, scrape: Scrape) -> Target:
        """The target, by the name that its model has, so that it is called so when it is down."""
        name = self.target.name or ", ".join(scrape.models)
        return replace(self.target, name=name)
