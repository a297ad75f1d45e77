"""Tells the API what has become of a pod, and corrects what others say of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Final

from tests.cluster.api import Api, ApiError, Object, Unreachable
from tests.cluster.kubelet.news import News

_AGAIN_SECONDS: Final = 0.5
_GONE: Final = (404, 409)
"""The pod is no more, or is another one of the same name."""

_logger = logging.getLogger(__name__)


class Reporting:
    """What the API was told of a pod, and whether it has the pod."""

    def __init__(
        self, pod: Object, api: Api, news: News, status: Callable[[Object], Object]
    ) -> None:
        """`status` says what there is to be told, by what the API had before; `news` says when."""
        self.is_gone = False
        self._pod = pod
        self._api = api
        self._news = news
        self._status = status
        self._told: Object = {}

    @property
    def is_done(self) -> bool:
        """Whether there is nothing left to tell, or nobody to be told of it."""
        return self.is_gone or self._told == self._current()

    def observe(self, status: Object) -> None:
        """The API has this status now. Whatever others said of its readiness is corrected."""
        if self._told and _readiness(status) != _readiness(self._told):
            self._told = {}
            self._news.tell()

    async def keep(self) -> None:
        """Tells whatever is new, until it is cancelled."""
        async with aclosing(self._news.each()) as news:
            async for _ in news:
                while not self.is_done:
                    status = self._current()
                    if not await self._asked(self._tell(status)):
                        continue
                    self._told = status
                    self._news.tell()

    async def remove(self) -> None:
        """Has the API forget the pod."""
        while not self.is_gone and not await self._asked(self._delete()):
            pass

    def _current(self) -> Object:
        return self._status(self._told or self._pod.get("status", {}))

    def _tell(self, status: Object) -> Awaitable[Object]:
        metadata = self._pod["metadata"]
        body = {"metadata": {"uid": metadata["uid"]}, "status": status}
        return self._api.report("pods", metadata["name"], body, metadata["namespace"])

    def _delete(self) -> Awaitable[Object]:
        metadata = self._pod["metadata"]
        where = (metadata["name"], metadata["namespace"])
        return self._api.delete("pods", *where, grace=0, uid=metadata["uid"])

    async def _asked(self, asking: Awaitable[Object]) -> bool:
        """Whether the API took it; if not, it may be tried again."""
        try:
            await asking
        except Unreachable:
            await asyncio.sleep(_AGAIN_SECONDS)
            return False
        except ApiError as error:
            self.is_gone = error.code in _GONE
            if not self.is_gone:
                _logger.warning("pod %s: %s", self._pod["metadata"]["name"], error)
                await asyncio.sleep(_AGAIN_SECONDS)
            return self.is_gone
        return True


def _readiness(status: Object) -> set[tuple[str, str]]:
    kinds = ("Ready", "ContainersReady")
    conditions = status.get("conditions", ())
    return {(one["type"], one["status"]) for one in conditions if one["type"] in kinds}
