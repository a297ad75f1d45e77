"""The routes: each reads a request, has it answered, and converts what comes back."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route, Router

from fuser_service.doors.openai import responses, wire
from fuser_service.doors.openai.conversation import Conversation, Manner
from fuser_service.doors.openai.credentials import credentials_of
from fuser_service.doors.openai.errors import HttpProblem
from fuser_service.doors.openai.exchange import REQUEST_ID, Exchanges, HttpObserver
from fuser_service.doors.openai.feed import Feed
from fuser_service.doors.openai.hosts import LoopbackOnly
from fuser_service.doors.openai.openapi import description
from fuser_service.doors.openai.page import page
from fuser_service.doors.openai.requests import ChatRequest, CompletionRequest, Request, parsed
from fuser_service.doors.openai.site.files import File, site
from fuser_service.service import EnsembleStatus, FuserService
from fuser_service.tenancy.caller import Caller
from specfuse.deadline import Deadline
from specfuse.errors import InvalidArgument, NotFound
from specfuse.http.bodies import Bodies, Receive, Send
from specfuse.http.bounds import Bounds
from specfuse.http.server import Application
from specfuse.http.tracing import TracedApplication
from specfuse.observability.tracing.requests import NONE, RequestSpans

_TIMEOUT_HEADERS: Final = ("x-stainless-read-timeout", "x-stainless-timeout")
"""How long the SDKs wait for an answer: Python's, and that of other languages."""

_API: Final = "/v1/"
_IGNORED_HEADER: Final = "x-specfuse-ignored-fields"
_IDENTITY: Final = "identity"
"""The content encoding of what is not encoded."""
_MOST_IGNORED: Final = 16
_LONGEST_NAME: Final = 64
_NO_NAME: Final = re.compile(r"[^!-+\--~]")
"""What has no place in a header that lists names: spaces, commas, all beyond ASCII."""
_SILENT_SECONDS: Final = 15.0
"""How long a stream may be silent. Proxies close connections on which nothing comes for 30 or 60 s.
"""
_LEAST_SILENCE_SECONDS: Final = 0.1
"""However impatient a caller says that it is, it is not told more often that it has to wait."""


@dataclass(frozen=True, slots=True)
class Around:
    """What the door has around the service."""

    observer: HttpObserver
    """Whom it tells of responses."""
    bounds: Bounds = field(default_factory=Bounds)
    """What callers can hold."""
    silent_seconds: float = _SILENT_SECONDS
    """How long a stream may be silent."""
    asks: bool = True
    """Whether there is a page at `/` on which people ask."""
    loopback_only: bool = False
    """Whether what is asked under another name than this machine's own is refused."""
    tracing: RequestSpans = NONE
    """Makes the spans of requests to the API."""


def application(service: FuserService, around: Around) -> Application:
    """The door as a server takes it."""
    api = _Api(service, around)
    routes = [
        Route("/v1/chat/completions", api.asked(ChatRequest), methods=["POST"]),
        Route("/v1/completions", api.asked(CompletionRequest), methods=["POST"]),
        Route("/v1/models", api.models, methods=["GET"]),
        Route("/v1/models/{model:path}", api.model, methods=["GET"]),
        Route("/healthz", api.health, methods=["GET"]),
        Route("/health", api.health, methods=["GET"]),
        Route("/readyz", api.readiness, methods=["GET"]),
        Route("/openapi.json", api.description, methods=["GET"]),
        Route("/docs", api.page, methods=["GET"]),
        Route("/page/{path:path}", api.file, methods=["GET"]),
        Route("/", api.index, methods=["GET"]),
    ]
    routed = _Routes(routes)
    guarded = LoopbackOnly(routed) if around.loopback_only else routed
    exchanges = Exchanges(guarded, around.observer)
    if not around.tracing.makes_any:
        return exchanges
    return TracedApplication(exchanges, around.tracing, below=_API)


class _Routes:
    """The routes. What an endpoint raises is left to whoever is around them."""

    def __init__(self, routes: list[Route]) -> None:
        self._router = Router(routes, redirect_slashes=False)

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:  # noqa: ANN401
        """Has the endpoint of the path answer."""
        scope["app"] = self  # without one, Starlette would answer what matches no route by itself
        await self._router(scope, receive, send)


class _Api:
    """The endpoints."""

    def __init__(self, service: FuserService, around: Around) -> None:
        self._service = service
        self._around = around
        self._bodies = Bodies(around.bounds)
        self._began = int(time.time())
        self._site = site(asks=around.asks)

    def asked(self, kind: type[Request]) -> Callable[[HttpRequest], Awaitable[Response]]:
        """The endpoint that answers queries of this kind."""

        async def answer(request: HttpRequest) -> Response:
            caller = self._caller(request)
            try:
                asked = parsed(kind, await self._body(request, caller))
            except (InvalidArgument, HttpProblem):
                self._service.refused(caller, request.scope["state"][REQUEST_ID])
                raise
            return self._answering(asked, caller, request)

        return answer

    async def models(self, request: HttpRequest) -> Response:
        """Lists the ensembles that the caller may ask."""
        caller = self._caller(request)
        data = [wire.model(status, self._began) for status in self._service.ensembles(caller)]
        return _json(responses.ModelList(object="list", data=data))

    async def model(self, request: HttpRequest) -> Response:
        """Describes one ensemble."""
        name, statuses = (
            request.path_params["model"],
            self._service.ensembles(self._caller(request)),
        )
        for status in statuses:
            if status.name == name:
                return _json(wire.model(status, self._began))
        known = ", ".join(status.name for status in statuses) or "none"
        raise NotFound(f"ensemble: there is no such model; there are: {known}", field="ensemble")

    async def health(self, _: HttpRequest) -> Response:
        """Says that the process serves: restarting it brings no member back."""
        return _json(responses.Health(status="ok"))

    async def readiness(self, request: HttpRequest) -> Response:
        """Says whether any ensemble, or the one asked for, can be asked."""
        statuses = _chosen(self._service.ensembles(), request.query_params.get("ensemble"))
        ready = {status.name: status.ready for status in statuses}
        serves = any(ready.values())
        said = responses.Health(status="ready" if serves else "not ready", ensembles=ready)
        return _json(said, 200 if serves else 503)

    async def description(self, _: HttpRequest) -> Response:
        """Describes the API to machines."""
        return Response(description(), media_type="application/json")

    async def page(self, _: HttpRequest) -> Response:
        """Describes the API to people."""
        return HTMLResponse(page(description(), asks=self._around.asks), headers=_PAGE_HEADERS)

    async def index(self, request: HttpRequest) -> Response:
        """The page on which people ask."""
        return _served(self._site.index, request)

    async def file(self, request: HttpRequest) -> Response:
        """A file that a page loads."""
        return _served(self._site.files.get(request.path_params["path"]), request)

    def _caller(self, request: HttpRequest) -> Caller:
        """Who makes the request. Nothing of its body has been read."""
        return self._service.caller(credentials_of(request))

    async def _body(self, request: HttpRequest, caller: Caller) -> bytes:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise HttpProblem(415, "the content type must be application/json")
        if _is_encoded(request.headers):
            said = "the body is encoded, by its content-encoding; send it as it is"
            raise HttpProblem(415, said, {"accept-encoding": _IDENTITY})
        announced = request.headers.get("content-length", "")
        return await self._bodies.read(request.receive, announced, caller.team.name)

    def _answering(self, asked: Request, caller: Caller, request: HttpRequest) -> Response:
        query = wire.generate_request(asked, request_id=request.scope["state"][REQUEST_ID])
        patience = _patience(request.headers)
        streams = bool(asked.stream)
        deadline = self._service.deadline_of(
            query, caller, Deadline.never() if streams else Deadline.after(patience)
        )
        manner = Manner(
            streams=streams,
            includes_usage=asked.includes_usage,
            silent_seconds=_silence(self._around.silent_seconds, patience),
            stall_seconds=self._around.bounds.stall_seconds,
            headers=_ignored(asked.passed_over()),
            names=asked.names,
        )
        feed = Feed(self._service.generate(query, caller, deadline))
        progress = wire.Progress(query, trace=asked.wishes.trace)
        return _Answer(Conversation(feed, progress, wire.form_of(asked), deadline, manner))


class _Answer(Response):
    """A conversation as an endpoint returns it."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:  # noqa: ANN401
        """Holds it."""
        del scope
        await self._conversation.hold(receive, send)


_PAGE_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; style-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
}


def _json(body: responses.Sendable, status: int = 200) -> Response:
    return Response(body.json_bytes(), status, media_type="application/json")


def _served(file: File | None, request: HttpRequest) -> Response:
    if file is None:
        raise HTTPException(404)
    return file.response(request.headers)


def _is_encoded(headers: Headers) -> bool:
    encodings = ",".join(headers.getlist("content-encoding")).split(",")
    return any(one.strip().lower() not in {"", _IDENTITY} for one in encodings)


def _chosen(statuses: Sequence[EnsembleStatus], name: str | None) -> Sequence[EnsembleStatus]:
    """The ensemble of the name; all of them, if there is none given.

    Raises:
        NotFound: there is no such ensemble.
    """
    chosen = [status for status in statuses if name is None or status.name == name]
    if not chosen:
        known = ", ".join(status.name for status in statuses)
        raise NotFound(f"there is no such ensemble; there are: {known}")
    return chosen


def _patience(headers: Headers) -> float | None:
    """How long the caller's SDK waits for the next byte, in seconds; None if it does not say."""
    for name in _TIMEOUT_HEADERS:
        try:
            seconds = float(headers.get(name, ""))
        except ValueError:
            continue
        if math.isfinite(seconds) and seconds > 0:
            return seconds
    return None


def _silence(most: float, patience: float | None) -> float:
    """How long a stream may be silent towards a caller that waits so long for its next byte."""
    return most if patience is None else min(most, max(patience / 2, _LEAST_SILENCE_SECONDS))


def _ignored(names: Iterable[str]) -> dict[str, str]:
    """The header that names the fields that were passed over: the first ones, if they are many."""
    sorted_names = sorted(name for name in names if name.isascii() and name.isprintable())
    shown = [_NO_NAME.sub("?", name[:_LONGEST_NAME]) for name in sorted_names[:_MOST_IGNORED]]
    return {_IGNORED_HEADER: ", ".join(shown)} if shown else {}
