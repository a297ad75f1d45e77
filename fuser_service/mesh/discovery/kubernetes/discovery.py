"""Replicas by the EndpointSlices that the API server tells of."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass

from fuser_service.mesh.discovery.kubernetes.account import ServiceAccount
from fuser_service.mesh.discovery.kubernetes.api import SliceApi
from fuser_service.mesh.discovery.kubernetes.settings import KubernetesSection
from fuser_service.mesh.discovery.kubernetes.slices import (
    Changed,
    EndpointSlice,
    News,
    complaint,
    endpoints_of,
    zone_of,
)
from fuser_service.mesh.discovery.kubernetes.trouble import Expired, Pauses, Trouble
from fuser_service.mesh.discovery.port import Endpoint

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Timings:
    """How long things take, in seconds.

    The server is asked to end a watch after `watch_seconds`, so that one that hangs is noticed; an
    answer has to begin within `answer_seconds`. All is listed anew every `resync_seconds`, whatever
    was said in between. After trouble there are pauses of `shortest_pause` to `longest_pause`.
    """

    watch_seconds: int = 60
    answer_seconds: float = 10.0
    resync_seconds: float = 600.0
    shortest_pause: float = 0.5
    longest_pause: float = 30.0


class SlicedEndpoints:
    """The endpoints of the EndpointSlices in a namespace that have a label.

    The API server knows, so that there are none is news as well: a model that is scaled to zero has
    no replicas. What it does not say, for whatever reason, changes nothing.
    """

    def __init__(
        self,
        section: KubernetesSection,
        account: ServiceAccount,
        timings: Timings = Timings(),
    ) -> None:
        self._section = section
        self._account = account
        self._timings = timings
        self._own_namespace = account.namespace()
        self._namespace = section.namespace or self._own_namespace
        self._pauses = Pauses(timings.shortest_pause, timings.longest_pause)
        self._trouble = ""
        self._complaint = ""
        self._own_zone: str | None = None
        self._zone_trouble = ""

    async def watch(self) -> AsyncIterator[tuple[Endpoint, ...]]:
        """Yields the endpoints whenever they have changed."""
        known: tuple[Endpoint, ...] | None = None
        while True:
            try:
                async with aclosing(self._slices()) as states:
                    async for slices in states:
                        endpoints = self._endpoints(slices)
                        if endpoints != known:
                            known = endpoints
                            yield endpoints
            except Trouble as trouble:
                self._tell(trouble)
                await asyncio.sleep(self._pauses.next(trouble.after_seconds))

    async def _slices(self) -> AsyncGenerator[tuple[EndpointSlice, ...], None]:
        """All slices, after each change, until they are to be listed anew.

        Raises:
            Trouble: the API server cannot be asked, or says nonsense.
        """
        async with SliceApi.connected(self._account, self._timings.answer_seconds) as api:
            listed = await api.list(self._namespace, label_selector=self._section.selector)
            slices = {one.metadata.name: one for one in listed.items or ()}
            yield tuple(slices.values())
            since = listed.metadata.resource_version
            until = time.monotonic() + _about(self._timings.resync_seconds)
            while time.monotonic() < until:
                await self._find_own_zone(api)
                yield tuple(slices.values())
                async with aclosing(self._watched(api, since)) as events:
                    async for event in events:
                        since = event.object.metadata.resource_version
                        if isinstance(event, Changed):
                            _apply(event, slices)
                            yield tuple(slices.values())

    async def _watched(self, api: SliceApi, since: str) -> AsyncGenerator[News, None]:
        """What a watch says. One that says nothing, and ends long before it should, is no watch.

        If it ends so after some news, the next one is begun after a pause.
        """
        seconds = max(1, round(_about(self._timings.watch_seconds)))
        began = time.monotonic()
        said = False
        selector = self._section.selector
        async with aclosing(api.watch(self._namespace, selector, since, seconds)) as events:
            async for event in events:
                said = True
                self._well()
                yield event
        early = time.monotonic() - began < seconds / 2
        if early and not said:
            raise Trouble("ends", "the API server ends the watch at once")
        if early:
            await asyncio.sleep(self._pauses.next())
        self._well()

    async def _find_own_zone(self, api: SliceApi) -> None:
        """Learns the zone of this pod by the EndpointSlice that has it, once there is one."""
        if self._own_zone is not None:
            return
        try:
            # Any version will do, since pods do not move: then the server need not ask its store.
            listed = await api.list(self._own_namespace, resource_version="0")
        except Trouble as trouble:
            if trouble.kind != self._zone_trouble:
                _logger.warning("the fuser's own zone is not known: %s", trouble.text)
            self._zone_trouble = trouble.kind
            return
        self._own_zone = zone_of(listed.items or (), self._account.pod)
        if self._own_zone is not None:
            _logger.info("the fuser's zone is %s", self._own_zone or "not known to its node")

    def _endpoints(self, slices: tuple[EndpointSlice, ...]) -> tuple[Endpoint, ...]:
        """The endpoints, and a word in the log if there can be none."""
        said = complaint(slices, self._section.port)
        if said and said != self._complaint:
            _logger.warning("%s: %s", self._what, said)
        self._complaint = said
        return endpoints_of(slices, self._section.port, self._own_zone or "")

    @property
    def _what(self) -> str:
        return f"EndpointSlices {self._section.selector} in {self._namespace}"

    def _tell(self, trouble: Trouble) -> None:
        """Logs the trouble once, until it is over or another."""
        if isinstance(trouble, Expired):
            _logger.info("%s: %s; listing anew", self._what, trouble.text)
            return
        if trouble.kind != self._trouble:
            _logger.warning("%s: %s; what is known of them stays", self._what, trouble.text)
        self._trouble = trouble.kind

    def _well(self) -> None:
        """A watch brings news, or ends as it should."""
        self._pauses.over()
        if self._trouble:
            _logger.info("%s: watched again", self._what)
        self._trouble = ""


def open_discovery(section: KubernetesSection) -> SlicedEndpoints:
    """The discovery of a member whose replicas are in EndpointSlices.

    Raises:
        Misconfigured: this is no pod that may ask the API server.
    """
    account = ServiceAccount.of_this_pod()
    account.configuration()
    return SlicedEndpoints(section, account)


def _apply(event: Changed, slices: dict[str, EndpointSlice]) -> None:
    name = event.object.metadata.name
    if event.type == "DELETED":
        slices.pop(name, None)
    else:
        slices[name] = event.object


def _about(seconds: float) -> float:
    """A little less or more, so that not all fusers ask at once."""
    return seconds * random.uniform(0.8, 1.2)  # noqa: S311 (not a secret)
