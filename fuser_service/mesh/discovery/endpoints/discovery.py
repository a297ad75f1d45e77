"""Replicas that are listed in the settings."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fuser_service.mesh.discovery.port import Endpoint


class ListedEndpoints:
    """The endpoints that the settings list, for good."""

    def __init__(self, endpoints: tuple[Endpoint, ...]) -> None:
        self._endpoints = endpoints

    async def watch(self) -> AsyncIterator[tuple[Endpoint, ...]]:
        """Yields the endpoints once."""
        yield self._endpoints


def open_discovery(endpoints: tuple[Endpoint, ...]) -> ListedEndpoints:
    """The discovery of a member whose settings list its endpoints."""
    return ListedEndpoints(endpoints)
