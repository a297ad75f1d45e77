"""The kinds of servers that a model can run on, for tests that hold for all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_service.backends.registry import open_backend, section_type
from model_service.backends.remote.backend import RemoteBackend
from model_service.ports import BackendHost
from tests.support.observers import RecordingObserver

ARCHITECTURE = "llama_served"
"""The tiny model that all of them run, from the same weights."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A server of one kind that runs the tiny model, and the model's directory."""

    kind: str
    url: str
    model: Path

    def section(self, url: str | None = None, **settings: Any) -> Any:
        """The settings of a backend on it, or on what stands between."""
        given = {"url": url or self.url, "tokenizer": str(self.model), "start_seconds": 30.0}
        return section_type(self.kind).model_validate(given | settings)

    @asynccontextmanager
    async def opened(
        self,
        url: str | None = None,
        observer: RecordingObserver | None = None,
        on_ready: Callable[[bool], None] = lambda _ready: None,
        **settings: Any,
    ) -> AsyncIterator[RemoteBackend]:
        """A backend on it."""
        host = BackendHost("member", observer or RecordingObserver(), on_ready=on_ready)
        backend = await open_backend(self.kind, self.section(url, **settings), host)
        assert isinstance(backend, RemoteBackend)
        try:
            yield backend
        finally:
            await backend.close()
