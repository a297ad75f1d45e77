"""A span around every request to an ASGI application."""

from __future__ import annotations

from http import HTTPMethod
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.trace import Span, StatusCode

from specfuse.http.bodies import Message, Receive, Send
from specfuse.http.server import Application
from specfuse.observability.tracing.conventions import HTTP_METHOD, HTTP_ROUTE, HTTP_STATUS
from specfuse.observability.tracing.current import attached
from specfuse.observability.tracing.outcomes import cancelled
from specfuse.observability.tracing.requests import RequestSpans

BROKEN_OFF: Final = "broken_off"
"""Where a scope's `state` says that an error, and not its caller, ended a response early."""

_METHODS: Final = frozenset(HTTPMethod)
_OTHER: Final = "_OTHER"
"""The convention's word for any other method."""
_SERVERS_FAULT: Final = 500


class TracedApplication:
    """An ASGI application whose requests have a span each, those below a path at least.

    Their route is known once they have been answered: Starlette leaves it in the scope. All else
    that a caller writes, paths too, is kept out of spans.
    """

    def __init__(self, application: Application, spans: RequestSpans, below: str) -> None:
        self._application = application
        self._spans = spans
        self._below = below

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:  # noqa: ANN401
        """Answers one request."""
        if not scope["path"].startswith(self._below):
            # On a connection that is kept, what was current may be the request before.
            with attached(Context()):
                await self._application(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in _METHODS else _OTHER
        headers = [(name.decode("latin-1"), value) for name, value in scope["headers"]]
        with self._spans.span(method, headers, {HTTP_METHOD: method}) as span:
            response = _Response(send)
            try:
                await self._application(scope, receive, response.send)
            finally:
                response.tell(span)
                if not (response.is_complete or scope["state"].get(BROKEN_OFF)):
                    cancelled(span)  # its caller went away, or the service's end cut it off
                if route := getattr(scope.get("route"), "path_format", ""):
                    span.update_name(f"{method} {route}")
                    span.set_attribute(HTTP_ROUTE, route)


class _Response:
    """What was sent of a response."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._status = 0
        self.is_complete = False

    async def send(self, message: Message) -> None:
        """Sends on."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
        await self._send(message)
        if message["type"] == "http.response.body":
            self.is_complete = not message.get("more_body")

    def tell(self, span: Span) -> None:
        """Has the span say what was answered."""
        if self._status:
            span.set_attribute(HTTP_STATUS, self._status)
        if self._status >= _SERVERS_FAULT:
            span.set_status(StatusCode.ERROR)
