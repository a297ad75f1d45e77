"""The spans of requests to the server that runs a model."""

from __future__ import annotations

from contextlib import AbstractContextManager
from urllib.parse import urlsplit

from opentelemetry.trace import Span, SpanKind, Tracer, get_current_span

from specfuse import spans


class RequestSpans:
    """Makes a client's span of each request to the server at `url`."""

    def __init__(self, tracer: Tracer, url: str) -> None:
        self._tracer = tracer
        parts = urlsplit(url)
        self._server: dict[str, str | int] = {
            "server.address": parts.hostname or "",
            "server.port": parts.port or (443 if parts.scheme == "https" else 80),
        }

    def request(self, method: str, path: str) -> AbstractContextManager[Span]:
        """A span of a request, current inside. `path` is one of the server's own, with no query."""
        told = {"http.request.method": method, "url.path": path, **self._server}
        return spans.span(self._tracer, f"{method} {path}", told, SpanKind.CLIENT)


def answered(status: int) -> None:
    """Tells the current span with which status the server answered."""
    get_current_span().set_attribute("http.response.status_code", status)


def sent_again() -> None:
    """Tells the current span that its request is made once more."""
    get_current_span().set_attribute("http.request.resend_count", 1)
