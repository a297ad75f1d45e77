"""Around every request: its id, its errors in OpenAI's form, its line in the log, its count."""

from __future__ import annotations

import logging
import re
import time
import uuid
from http import HTTPMethod
from typing import Any, Final, Protocol

from opentelemetry.trace import get_current_span
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException

from fuser_service.doors.openai.conversation import Failed
from fuser_service.doors.openai.errors import (
    NOT_ASKED,
    ErrorResponse,
    HttpProblem,
    of_http,
    of_service,
)
from fuser_service.reports import new_request_id
from specfuse.errors import Internal, ShuttingDown, SpecFuseError, traceback_of
from specfuse.http.bodies import BodyRefused, CallerGone, Message, Receive, Send
from specfuse.http.server import DRAINING, Application
from specfuse.http.tracing import BROKEN_OFF
from specfuse.observability.tracing import conventions
from specfuse.observability.tracing.outcomes import failed

REQUEST_ID: Final = "x-request-id"

_SANE_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_METHODS: Final = frozenset(HTTPMethod)
_NOT_FOUND: Final = 404
_logger = logging.getLogger(__name__)


class HttpObserver(Protocol):
    """Told of every response. Called on the event loop; must be fast and must not raise."""

    def http_responded(self, route: str, status: int) -> None:
        """A request was answered. `route` is one of the door's paths, or empty for no such path."""


class Exchanges:
    """An ASGI application around another, which may raise whatever it likes."""

    def __init__(self, application: Application, observer: HttpObserver) -> None:
        self._application = application
        self._observer = observer

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:  # noqa: ANN401
        """Answers one request."""
        exchange = _Exchange(_request_id(Headers(scope=scope)), send)
        scope["state"][REQUEST_ID] = exchange.request_id
        get_current_span().set_attribute(conventions.REQUEST_ID, exchange.request_id)
        try:
            await self._answer(scope, receive, exchange)
        except CallerGone:
            pass
        finally:
            route = getattr(scope.get("route"), "path_format", "")
            exchange.report(scope["method"], route)
            if exchange.status:
                self._observer.http_responded(route, exchange.status)

    async def _answer(self, scope: Any, receive: Receive, exchange: _Exchange) -> None:  # noqa: ANN401
        try:
            _refuse_while_draining(scope)
            await self._application(scope, receive, exchange.send)
        except CallerGone:
            raise
        except Exception as error:  # noqa: BLE001 (whatever was not foreseen is answered too)
            if not exchange.status:
                response = _presented(error, exchange.request_id)
                get_current_span().set_attribute(conventions.ERROR_TYPE, _reason(error, response))
                await exchange.send_error(response)
                return
            failed(get_current_span(), error)
            scope["state"][BROKEN_OFF] = True
            if not isinstance(error, SpecFuseError):
                _logger.error("%s: broken off: %s", exchange.request_id, traceback_of(error))  # noqa: TRY400


class _Exchange:
    """One request and its response."""

    def __init__(self, request_id: str, send: Send) -> None:
        self.request_id = request_id
        self.status = 0
        self._send = send
        self._began = time.monotonic()

    async def send(self, message: Message) -> None:
        """Sends on, with the request's id."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message)[REQUEST_ID] = self.request_id
        await self._send(message)

    async def send_error(self, response: ErrorResponse) -> None:
        """Sends an error."""
        headers = {**response.headers, "content-type": "application/json"}
        headers["content-length"] = str(len(response.body))
        encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        await self.send(
            {"type": "http.response.start", "status": response.status, "headers": encoded}
        )
        await self.send({"type": "http.response.body", "body": response.body})

    def report(self, method: str, route: str) -> None:
        """Writes the request's line. It has nothing that a caller wrote but a sane id."""
        seconds = time.monotonic() - self._began
        level = logging.INFO if route.startswith("/v1/") else logging.DEBUG
        said = (
            method if method in _METHODS else "?",
            route or "(no such path)",
            self.status or "-",
        )
        _logger.log(level, "%s %s %s %.3f s, request %s", *said, seconds, self.request_id)


def _refuse_while_draining(scope: Any) -> None:  # noqa: ANN401
    if scope["state"].get(DRAINING):
        raise ShuttingDown("the service shuts down and takes no new requests")


def malformed() -> bytes:
    """The response to what is no HTTP."""
    body = of_http(HttpProblem(400, "this is not a well-formed HTTP/1.1 request")).body
    head = (
        "HTTP/1.1 400 Bad Request\r\n"
        "content-type: application/json\r\n"
        f"content-length: {len(body)}\r\n"
        f"{REQUEST_ID}: {uuid.uuid4().hex}\r\n"
        "connection: close\r\n\r\n"
    )
    return head.encode() + body


def _request_id(headers: Headers) -> str:
    """The caller's id for the request, if it gave a sane one; else a new one."""
    given = headers.get(REQUEST_ID, "")
    return given if _SANE_ID.fullmatch(given) else new_request_id()


def _presented(error: Exception, request_id: str) -> ErrorResponse:
    match error:
        case Failed() if not isinstance(error.error, Internal):
            return of_service(error.error, error.standing)
        case SpecFuseError() if not isinstance(error, Internal):
            return of_service(error)
        case HttpProblem():
            return of_http(error)
        case BodyRefused():
            return of_http(HttpProblem(error.status, error.message, _closing(error.status)))
        case HTTPException():
            return of_http(_of_starlette(error))
        case _:
            return _bug(error, request_id)


def _reason(error: Exception, response: ErrorResponse) -> str:
    """What a trace calls the error: its reason if it is the service's, else the status."""
    match error:
        case Failed():
            return error.error.reason
        case SpecFuseError():
            return error.reason
        case HttpProblem() | BodyRefused() | HTTPException():
            return str(response.status)
        case _:
            return Internal.reason


def _bug(error: Exception, request_id: str) -> ErrorResponse:
    """What the caller may know; the log has the rest under the request's id."""
    _logger.error("request %s failed: %s", request_id, traceback_of(error))
    standing = error.standing if isinstance(error, Failed) else NOT_ASKED
    known = error.error if isinstance(error, Failed) else error
    if not isinstance(known, Internal):
        known = Internal(f"an unexpected error; the service's log has it under {request_id}")
    return of_service(known, standing)


def _closing(status: int) -> dict[str, str]:
    """What never arrived whole leaves a connection on which nothing else can be asked."""
    return {"connection": "close"} if status == 408 else {}  # noqa: PLR2004


def _of_starlette(error: HTTPException) -> HttpProblem:
    if error.status_code == _NOT_FOUND:
        said = "there is no such path; /docs describes those that there are"
        return HttpProblem(_NOT_FOUND, said)
    allowed = (error.headers or {}).get("Allow", "")
    said = f"this path takes no such method; it takes: {allowed}"
    return HttpProblem(error.status_code, said, {"allow": allowed} if allowed else {})
