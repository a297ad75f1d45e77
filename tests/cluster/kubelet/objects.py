"""ConfigMaps and Secrets of a node's pods, each followed for as long as somebody needs it.

A node may read what its own pods name, one object at a time, and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field

from tests.cluster.api import Api, Object
from tests.cluster.kubelet.news import News

Place = tuple[str, str, str]
"""An object's resource, namespace and name."""


@dataclass(slots=True)
class _Followed:
    task: asyncio.Task[None]
    users: int = 0
    current: Object | None = None
    known: bool = False


@dataclass(slots=True)
class ObjectCache:
    """The objects as they are now. There is news after every change."""

    api: Api
    news: News = field(default_factory=News)
    _followed: dict[Place, _Followed] = field(default_factory=dict)

    @contextmanager
    def following(self, places: set[Place]) -> Iterator[None]:
        """Knows these until the context is left."""
        for place in places:
            self._begin(place)
        try:
            yield
        finally:
            for place in places:
                self._end(place)

    def current(self, place: Place) -> Object | None:
        """The object; None if there is none. It must be followed."""
        return self._followed[place].current

    def all_known(self, places: set[Place]) -> bool:
        """Whether it is known of each whether there is one."""
        return all(self._followed[place].known for place in places)

    def _begin(self, place: Place) -> None:
        if place not in self._followed:
            self._followed[place] = _Followed(asyncio.create_task(self._follow(place)))
        self._followed[place].users += 1

    def _end(self, place: Place) -> None:
        followed = self._followed[place]
        followed.users -= 1
        if not followed.users:
            followed.task.cancel()
            del self._followed[place]

    async def _follow(self, place: Place) -> None:
        plural, namespace, name = place
        mirror = self.api.mirror(plural, namespace, fieldSelector=f"metadata.name={name}")
        async with aclosing(mirror) as mirror:
            async for objects in mirror:
                followed = self._followed[place]
                followed.current = objects.get(f"{namespace}/{name}")
                followed.known = True
                self.news.tell()
