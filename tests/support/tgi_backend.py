"""The backend of a text-generation-inference server, opened as a service opens it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from opentelemetry.trace import Tracer

from model_service.backends.remote.backend import RemoteBackend
from model_service.backends.tgi.backend import open_backend
from model_service.backends.tgi.settings import TgiSection
from model_service.ports import BackendHost
from specfuse.observability.tracing.spans import NO_TRACER
from tests.support import tiny_models
from tests.support.observers import RecordingObserver


def tokenizer_of(architecture: str, directory: Path) -> str:
    """A tiny model's tokenizer as a directory."""
    tiny_models.tokenizer(architecture).save_pretrained(directory)
    return str(directory)


@asynccontextmanager
async def opened(
    url: str,
    tokenizer: str,
    observer: RecordingObserver | None = None,
    tracer: Tracer = NO_TRACER,
    **settings: Any,
) -> AsyncIterator[RemoteBackend]:
    """The backend, closed in the end."""
    section = TgiSection(url=url, tokenizer=tokenizer, **settings)
    host = BackendHost("tiny", observer or RecordingObserver(), tracer=tracer)
    backend = await open_backend(section, host)
    try:
        yield backend
    finally:
        await backend.close()
