"""Files that may change while a service runs: looked at every few seconds, read once they did."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeAlias, TypeVar

from specfuse.errors import Misconfigured

Content = TypeVar("Content")

_EVERY_SECONDS: Final = 5.0

_Looks: TypeAlias = "tuple[tuple[int, ...] | None, ...]"

_logger = logging.getLogger(__name__)


class FollowedFiles:
    """Knows files, and whom to tell once they hold something else."""

    def __init__(self) -> None:
        self._followed: list[_Followed[Any]] = []

    def follow(
        self,
        paths: Collection[Path],
        read: Callable[[], Content],
        changed: Callable[[Content], None],
    ) -> Content:
        """What `read` makes of the files now; `changed` is told what it makes of them later.

        Files that are wrong later on are reported in the log, once for every change of theirs, and
        what was read before goes on to count.

        Raises:
            Misconfigured: the files are wrong now.
        """
        looks = _looks_of(paths)
        content = read()
        self._followed.append(_Followed(tuple(paths), read, changed, looks, content))
        return content

    def look(self) -> None:
        """Reads what looks different than when it was read last."""
        for one in self._followed:
            one.look()

    def read_all(self) -> None:
        """Reads everything, however it looks."""
        for one in self._followed:
            one.read_again()


@asynccontextmanager
async def following(every_seconds: float = _EVERY_SECONDS) -> AsyncIterator[FollowedFiles]:
    """Files that are looked at every few seconds until the context is left."""
    files = FollowedFiles()
    task = asyncio.create_task(_keep_looking(files, every_seconds))
    try:
        yield files
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _keep_looking(files: FollowedFiles, every_seconds: float) -> None:
    while True:
        await asyncio.sleep(every_seconds)
        files.look()


@dataclass(slots=True)
class _Followed(Generic[Content]):
    """Files that are read together, how they looked when they were, and what they held."""

    paths: tuple[Path, ...]
    read: Callable[[], Content]
    changed: Callable[[Content], None]
    looks: _Looks
    content: Content

    def look(self) -> None:
        if _looks_of(self.paths) != self.looks:
            self.read_again()

    def read_again(self) -> None:
        looks = _looks_of(self.paths)
        try:
            content = self.read()
        except Misconfigured as error:
            if self._unchanged_since(looks):
                _logger.warning("%s; what was read before goes on to count", error.message)
            return
        if self._unchanged_since(looks) and content != self.content:
            self.content = content
            self.changed(content)

    def _unchanged_since(self, looks: _Looks) -> bool:
        """Whether what was read is whole. If somebody wrote meanwhile, the next look finds it."""
        if _looks_of(self.paths) != looks:
            return False
        self.looks = looks
        return True


def _looks_of(paths: Collection[Path]) -> _Looks:
    """What is different once a file was written to, or another is in its place.

    Links are followed wherever they are in a path: Kubernetes swaps the folder around the files.
    """
    return tuple(_look_of(path) for path in paths)


def _look_of(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
