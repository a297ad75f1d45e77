"""The spans of requests to the server that runs a model."""

from __future__ import annotations

from contextlib import AbstractContextManager
from urllib.parse import urlsplit

from opentelemetry.trace import Span, SpanKind, Tracer, get_current_span

from specfuse.observability.tracing import spans
from specfuse.observability.tracing.conventions import (
    HTTP_METHOD,
    HTTP_RESENDS,
    HTTP_STATUS,
    SERVER_ADDRESS,
    SERVER_PORT,
    URL_PATH,
)


class RequestSpans:
    """Makes a client's span of each request to the server at `url`."""

    def __init__(self, tracer: Tracer, url: str) -> None:
        self._tracer = tracer
        parts = urlsplit(url)
        self._server: dict[str, str | int] = {
            SERVER_ADDRESS: parts.hostname or "",
            SERVER_PORT: parts.port or (443 if parts.scheme == "https" else 80),
        }

    def request(self, method: str, path: str) -> AbstractContextManager[Span]:
        """A span of a request, current inside. `path` is one of the server's own, with no query."""
        told = {HTTP_METHOD: method, URL_PATH: path, **self._server}
        return spans.span(self._tracer, f"{method} {path}", told, SpanKind.CLIENT)


def answered(status: int) -> None:
    """Tells the current span with which status the server answered."""
    get_current_span().set_attribute(HTTP_STATUS, status)


def sent_again() -> None:
    """Tells the current span that its request is made once more."""
    get_current_span().set_attribute(HTTP_RESENDS, 1)
