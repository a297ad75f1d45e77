"""What of the settings file a running fuser takes anew when it is told to read it again."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping

from fuser_service.settings.settings import Ensemble, Settings
from specfuse.errors import Misconfigured

_logger = logging.getLogger(__name__)


class Rereading:
    """Takes over the ensembles; everything else is as it was at the start.

    `read` reads the file, and `taken` is told the ensembles if they are others than before. What
    has begun to be answered keeps its rules. Queries that wait have not: see `FuserService.take`.
    """

    def __init__(
        self,
        started_with: Settings,
        read: Callable[[], Settings],
        taken: Callable[[Mapping[str, Ensemble]], None],
    ) -> None:
        self._started_with = started_with
        self._ensembles = started_with.ensembles
        self._read = read
        self._taken = taken

    def run(self) -> None:
        """Reads the file. If anything is wrong with it, the log says what, and nothing changes."""
        try:
            settings = self._read()
            _check_members(settings, self._started_with)
        except Misconfigured as error:
            _logger.error("settings not taken: %s", error.message)  # noqa: TRY400 (says it all)
            return
        if others := ", ".join(_other_changes(settings, self._started_with)):
            _logger.warning("settings: a restart is needed for what changed in: %s", others)
        if settings.ensembles != self._ensembles:
            self._ensembles = settings.ensembles
            self._taken(settings.ensembles)
            _logger.info("settings: new queries use these: %s", ", ".join(settings.ensembles))


def _check_members(settings: Settings, started_with: Settings) -> None:
    """Refuses ensembles of members that only a restart brings."""
    unknown = [
        f"ensembles.{name}.members[{position}]: {member} is new, and a restart is needed for it"
        for name, ensemble in settings.ensembles.items()
        for position, member in enumerate(ensemble.members)
        if member not in started_with.members
    ]
    if unknown:
        raise Misconfigured("\n".join(unknown))


def _other_changes(settings: Settings, started_with: Settings) -> Iterator[str]:
    for key in Settings.model_fields:
        if key != "ensembles" and getattr(settings, key) != getattr(started_with, key):
            yield key
