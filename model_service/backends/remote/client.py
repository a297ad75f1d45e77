"""HTTP to the server that runs a model: connections, time limits, retries, keys.

The library's own client for one kind of server is not used, because what is needed of all is more
than any gives: the deadline of each call, an end to the server's work when a call is cancelled,
bounded answers, a status that is kept, and nothing sent that the settings do not say.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx2
from opentelemetry.trace import Tracer

from model_service.backends.remote.refusals import Refusal, Translate, error_of, retry_after
from model_service.backends.remote.settings import RemoteSection
from model_service.backends.remote.spans import RequestSpans, answered, sent_again
from model_service.ports import RemoteObserver, RemoteOutcome
from specfuse.deadline import Deadline
from specfuse.errors import (
    Code,
    DeadlineExceeded,
    Misconfigured,
    ModelFailure,
    Overloaded,
    SpecFuseError,
    Unavailable,
)
from specfuse.observability.tracing.propagation import outgoing
from specfuse.observability.tracing.spans import NO_TRACER

_CONNECT_SECONDS: Final = 5.0
_MOST_BYTES: Final = 256 << 20
"""An answer with the log-probabilities of 64 long contexts stays below this."""

_PARSED_HERE_BYTES: Final = 1 << 16
"""A larger answer is parsed on a thread, as the event loop has others to serve."""

_MOST_TEXT_BYTES: Final = 4096
_MOST_KEY_CHARACTERS: Final = 4096
_CONNECTED: Final = "connection.connect_tcp.complete"
_ANSWERED: Final = "http11.receive_response_headers.complete"
_DISTRUST: Final = "CERTIFICATE_VERIFY_FAILED"
_OTHER_NAME: Final = "mismatch"
_NO_TLS: Final = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")
_OUTCOMES: Final[dict[Code, RemoteOutcome]] = {
    Code.OVERLOADED: "overloaded",
    Code.UNAVAILABLE: "unavailable",
    Code.DEADLINE_EXCEEDED: "cancelled",
    Code.INTERNAL: "refused",
    Code.INVALID_ARGUMENT: "refused",
    Code.MISCONFIGURED: "refused",
}


@dataclass(frozen=True, slots=True)
class Request:
    """A request to the server. `operation` is the word for its kind in metrics."""

    operation: str
    path: str
    body: Mapping[str, object] | None = None
    """The JSON to post; None gets."""

    @property
    def method(self) -> str:
        """The method of HTTP."""
        return "GET" if self.body is None else "POST"


class ServerClient:
    """Asks one server. Cancelling a request closes it, which ends the server's work on it."""

    def __init__(
        self,
        section: RemoteSection,
        translate: Translate,
        observer: RemoteObserver,
        tracer: Tracer = NO_TRACER,
    ) -> None:
        """Connects when first asked.

        Raises:
            Misconfigured: the key or the authorities cannot be read.
        """
        self._key_file = section.api_key_file
        self._translate = translate
        self._observer = observer
        self._spans = RequestSpans(tracer, section.url)
        self.connections = 0
        """How often a connection was made. A server that has restarted needs a new one."""
        limits = httpx2.Limits(
            max_connections=section.connections, max_keepalive_connections=section.connections
        )
        self._http = httpx2.AsyncClient(
            base_url=section.url,
            verify=_authorities(section.ca_file),
            limits=limits,
            trust_env=False,  # no proxies, no .netrc, no tokens of the environment
            headers={"user-agent": "specfuse"},
        )
        self.read_key()

    def read_key(self) -> None:
        """Reads the key again.

        Raises:
            Misconfigured: it cannot be read, or is no key.
        """
        if self._key_file is not None:
            self._http.headers["authorization"] = f"Bearer {_key(self._key_file)}"

    async def close(self) -> None:
        """Closes all connections. Idempotent."""
        await self._http.aclose()

    async def json(self, request: Request, deadline: Deadline) -> Any:  # noqa: ANN401
        """What the server's answer holds.

        Raises:
            Unavailable, Overloaded, ModelFailure, Misconfigured, DeadlineExceeded: as for `Server`.
        """
        answer = await self.read(request, deadline)
        try:
            if len(answer) < _PARSED_HERE_BYTES:
                return _parsed(answer)
            return await asyncio.to_thread(_parsed, answer)
        except (ValueError, RecursionError) as error:
            raise ModelFailure("the server's answer is not JSON") from error

    async def read(self, request: Request, deadline: Deadline) -> bytes:
        """The server's answer as it came. Raises like `json`."""
        started = time.monotonic()
        outcome: RemoteOutcome = "cancelled"
        try:
            with self._spans.request(request.method, request.path):
                answer = await self._asked(request, deadline)
            outcome = "ok"
        except SpecFuseError as error:
            outcome = _OUTCOMES.get(error.code, "failed")
            raise
        else:
            return answer
        finally:
            self._observer.requested(request.operation, outcome, time.monotonic() - started)

    async def _asked(self, request: Request, deadline: Deadline) -> bytes:
        try:
            return await self._within(request, deadline)
        except _WasIdle:
            self._observer.retried(request.operation)
            sent_again()
        try:
            return await self._within(request, deadline)
        except _WasIdle as error:
            raise _broken(error) from error

    async def _within(self, request: Request, deadline: Deadline) -> bytes:
        try:
            async with asyncio.timeout(deadline.timeout):
                return await self._answered(request, deadline)
        except TimeoutError:
            raise DeadlineExceeded("the server did not answer in time") from None

    async def _answered(self, request: Request, deadline: Deadline) -> bytes:
        trace = _Trace()
        try:
            async with self._sent(request, trace, deadline) as response:
                body = await _body(response)
        except (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError) as error:
            if trace.connected or trace.answered:
                raise _broken(error) from error
            raise _WasIdle from error
        except httpx2.TransportError as error:
            raise _transport_error(error) from error
        finally:
            self.connections += trace.connected
        answered(response.status_code)
        if response.status_code == httpx2.codes.OK:
            return body
        said = retry_after(response.headers.get("retry-after"))
        raise error_of(Refusal(response.status_code, _lenient(body), said), self._translate)

    def _sent(
        self, request: Request, trace: _Trace, deadline: Deadline
    ) -> AbstractAsyncContextManager[httpx2.Response]:
        connecting = min(deadline.remaining, _CONNECT_SECONDS)
        return self._http.stream(
            request.method,
            request.path,
            json=request.body,
            headers=dict(outgoing()),
            timeout=httpx2.Timeout(deadline.timeout, connect=connecting),
            extensions={"trace": trace.heard},
        )


class _WasIdle(Exception):
    """The server had closed an idle connection: it never saw the request."""


class _Trace:
    """What happened to one request."""

    def __init__(self) -> None:
        self.connected = False
        self.answered = False

    async def heard(self, event: str, _particulars: Mapping[str, object]) -> None:
        self.connected |= event == _CONNECTED
        self.answered |= event == _ANSWERED


async def _body(response: httpx2.Response) -> bytes:
    """All of an answer, which is bounded.

    Raises:
        ModelFailure: it is longer than any answer should be, or is not encoded as it says.
    """
    body = bytearray()
    try:
        async for part in response.aiter_bytes():
            body += part
            if len(body) > _MOST_BYTES:
                raise ModelFailure(f"the server's answer is longer than {_MOST_BYTES} bytes")
    except httpx2.DecodingError as error:
        raise ModelFailure("the server's answer is not encoded as it says") from error
    return bytes(body)


def _transport_error(error: httpx2.TransportError) -> SpecFuseError:
    match error:
        case httpx2.ConnectError() if _DISTRUST in str(error):
            return _distrust(str(error))
        case httpx2.ConnectError() if any(sign in str(error) for sign in _NO_TLS):
            return Misconfigured("url: the server does not speak TLS; is it http:// instead?")
        case httpx2.ConnectError() | httpx2.ConnectTimeout():
            return Unavailable("the server that runs the model cannot be reached")
        case httpx2.PoolTimeout():
            return Overloaded("all connections to the server are in use")
        case httpx2.TimeoutException():
            return DeadlineExceeded("the server did not answer in time")
        case _:
            return _broken(error)


def _distrust(said: str) -> Misconfigured:
    if _OTHER_NAME in said:
        return Misconfigured("url: the server's certificate is not for this host")
    return Misconfigured(
        "ca_file: the server's certificate is not one that these authorities vouch for"
    )


def _broken(_error: Exception) -> Unavailable:
    return Unavailable("the server that runs the model broke off a request")


def _parsed(text: bytes) -> Any:  # noqa: ANN401 (whatever it holds)
    return json.loads(text)


def _lenient(body: bytes) -> Any:  # noqa: ANN401 (as above)
    """JSON if it is any, else text: some refusals come from a framework and not from the server."""
    try:
        return _parsed(body)
    except (ValueError, RecursionError):
        return body[:_MOST_TEXT_BYTES].decode(errors="replace")


def _key(file: Path) -> str:
    try:
        key = file.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not ASCII text"
        raise Misconfigured(f"api_key_file: {file} cannot be read: {reason}") from None
    if not key.isprintable() or not key or " " in key or len(key) > _MOST_KEY_CHARACTERS:
        raise Misconfigured(f"api_key_file: {file} must hold one key, on one line")
    return key


def _authorities(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise Misconfigured(f"ca_file: {ca_file} holds no certificates in PEM: {error}") from error
