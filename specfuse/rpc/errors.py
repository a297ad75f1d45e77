"""Errors on the wire: the one table of canonical codes, and the way there and back.

A servicer just raises; `ErrorInterceptor` ends the call with the error's status: its canonical
code, its message and a `google.rpc.ErrorInfo` whose reason names the exception. A caller gives what
gRPC raised to `from_rpc_error` and gets the same exception back.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any, Final, NoReturn

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from specfuse.errors import (
    Code,
    DeadlineExceeded,
    Forbidden,
    Internal,
    InvalidArgument,
    Misconfigured,
    NotFound,
    Overloaded,
    QuorumLost,
    SpecFuseError,
    Unauthenticated,
    Unavailable,
    all_errors,
    traceback_of,
)
from specfuse.rpc.interception import Context, Handler, wrapped
from specfuse.v1 import fuser_service_pb2

DOMAIN: Final = "specfuse"
"""The domain of every ErrorInfo."""

MAX_STATUS_BYTES: Final = 6144
"""Most a status may take on the wire, in HTTP/2 headers; from 8 KiB on gRPC begins to drop them.

A ResumePoint that does not fit is left out: the caller's stream had all that is in it.
"""

MAX_MESSAGE_BYTES: Final = 768
"""Longer messages are cut, in bytes of UTF-8."""

MAX_METADATA_BYTES: Final = 192
"""Longer metadata values are cut, in bytes of UTF-8."""

CODES: Final[Mapping[Code, grpc.StatusCode]] = MappingProxyType(
    {
        Code.UNKNOWN: grpc.StatusCode.UNKNOWN,
        Code.INVALID_ARGUMENT: grpc.StatusCode.INVALID_ARGUMENT,
        Code.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
        Code.FORBIDDEN: grpc.StatusCode.PERMISSION_DENIED,
        Code.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
        Code.RATE_LIMITED: grpc.StatusCode.RESOURCE_EXHAUSTED,
        Code.OVERLOADED: grpc.StatusCode.RESOURCE_EXHAUSTED,
        Code.DEADLINE_EXCEEDED: grpc.StatusCode.DEADLINE_EXCEEDED,
        Code.CANCELLED: grpc.StatusCode.CANCELLED,
        Code.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
        Code.MISCONFIGURED: grpc.StatusCode.FAILED_PRECONDITION,
        Code.INTERNAL: grpc.StatusCode.INTERNAL,
    }
)
"""Every kind of error and its canonical code. The table is total; a test enumerates the kinds."""

_REASONS: Final = {error.reason: error for error in all_errors()}
_DETAILS_KEY: Final = "grpc-status-details-bin"

# What a status without our ErrorInfo means: gRPC itself, or a proxy, gave it.
_FOREIGN: Final[Mapping[grpc.StatusCode, type[SpecFuseError]]] = {
    grpc.StatusCode.CANCELLED: Unavailable,  # by the other side: ours is asyncio.CancelledError
    grpc.StatusCode.UNKNOWN: Internal,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: Internal,
    grpc.StatusCode.PERMISSION_DENIED: Forbidden,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.FAILED_PRECONDITION: Misconfigured,
    grpc.StatusCode.ABORTED: Unavailable,
    grpc.StatusCode.OUT_OF_RANGE: InvalidArgument,
    grpc.StatusCode.UNIMPLEMENTED: Misconfigured,
    grpc.StatusCode.INTERNAL: Internal,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DATA_LOSS: Internal,
}

_logger = logging.getLogger(__name__)


def code_of(error: SpecFuseError) -> grpc.StatusCode:
    """The canonical code of an error."""
    return CODES[error.code]


def status_of(error: SpecFuseError, **metadata: str) -> status_pb2.Status:
    """The error as a `google.rpc.Status`: code, message, ErrorInfo, any RetryInfo or ResumePoint.

    `metadata` joins the error's own in the ErrorInfo.
    """
    number, _ = code_of(error).value
    status = status_pb2.Status(code=number, message=_presentable(error.message, MAX_MESSAGE_BYTES))
    joined = (error.metadata | metadata).items()
    presentable = {key: _presentable(value, MAX_METADATA_BYTES) for key, value in joined}
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=presentable)
    status.details.add().Pack(info)
    if error.retry_after_seconds:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.seconds = error.retry_after_seconds
        status.details.add().Pack(retry)
    if isinstance(error, QuorumLost):
        _add_resume_point(status, error)
    return status


async def abort(context: Context, error: SpecFuseError, **metadata: str) -> NoReturn:
    """Ends a call with the error's status; see `status_of`."""
    status = status_of(error, **metadata)
    details = ((_DETAILS_KEY, status.SerializeToString()),)
    await context.abort(code_of(error), status.message, details)


def from_rpc_error(error: grpc.RpcError, peer: str = "") -> SpecFuseError:
    """The exception the other side raised, or the nearest one if gRPC itself ended the call.

    Args:
        error: What a gRPC call raised; synchronous or asyncio.
        peer: The address called, named in the message if the connection is at fault.
    """
    status = _rich_status(error.trailing_metadata() or ())
    info = _error_info(status)
    if info is None:
        return _from_foreign(error, peer)
    message, metadata = status.message, dict(info.metadata)
    cls = _REASONS.get(info.reason)
    if cls is None:  # a newer server: keep what can be kept
        return _build(_FOREIGN[error.code()], message, metadata)
    if cls is QuorumLost:
        return _quorum_lost(status, metadata)
    return _build(cls, message, metadata)


def reason_in(metadata: Iterable[Any]) -> str:
    """The reason in what a call ended with; empty if there is none of ours."""
    info = _error_info(_rich_status(metadata))
    return "" if info is None else str(info.reason)


def without_address(error: SpecFuseError) -> SpecFuseError:
    """The error for those who are not to know where the peer is.

    What the peer says is its own; what gRPC says of a connection names addresses.
    """
    if "peer" not in error.metadata:
        return error
    said = "could not be reached" if isinstance(error, Unavailable) else "did not answer the call"
    return _build(type(error), said, {})


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Turns what servicers and the interceptors within it raise into statuses.

    For unary and server-streaming calls.

    A `SpecFuseError` becomes its status, a lack of memory that of `Overloaded`. Anything else is a
    bug: INTERNAL with a correlation id,
    under which the log has the traceback. An unforeseen exception's message is neither sent nor
    logged, as it may quote the request.
    """

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """The method's handler, with its errors turned into statuses."""
        try:
            handler = await continuation(handler_call_details)
        except Exception as error:  # noqa: BLE001 (reported as what a servicer raises is)
            handler = _raising(error)
        if handler is None:
            return None
        method = handler_call_details.method
        return wrapped(handler, lambda context: _reporting(context, method))


def _raising(error: Exception) -> Handler:
    """A handler of any call that ends it with the error, before its request is read."""

    async def run(_request: bytes, _context: Context) -> NoReturn:
        raise error

    return grpc.unary_unary_rpc_method_handler(run)


@asynccontextmanager
async def _reporting(context: Context, method: str) -> AsyncIterator[None]:
    """Ends the call with the status of what was raised."""
    try:
        yield
    except (grpc.aio.AbortError, grpc.aio.InternalError):
        raise  # the servicer ended the call itself, or the caller is gone
    except MemoryError:
        await abort(context, Overloaded("there is not enough memory for this call now"))
    except Exception as error:  # noqa: BLE001 - whatever a servicer did not foresee
        if isinstance(error, SpecFuseError) and not isinstance(error, Internal):
            await abort(context, error)
        await _abort_with_bug(context, error, method)


async def _abort_with_bug(context: Context, error: Exception, method: str) -> NoReturn:
    """Ends the call with what the caller may know; the log has the rest under the same id."""
    correlation_id = uuid.uuid4().hex[:12]
    _logger.error("%s failed, correlation id %s: %s", method, correlation_id, traceback_of(error))
    if not isinstance(error, Internal):
        error = Internal(f"an unexpected error; the service's log has it under {correlation_id}")
    await abort(context, error, correlation_id=correlation_id)


def _add_resume_point(status: status_pb2.Status, error: QuorumLost) -> None:
    """Adds what was committed, if headers can hold it."""
    point = fuser_service_pb2.ResumePoint(
        committed_segments=error.committed_segments, committed_tokens=error.committed_tokens
    )
    status.details.add().Pack(point)
    if _bytes_on_the_wire(status) > MAX_STATUS_BYTES:
        del status.details[-1]


def _bytes_on_the_wire(status: status_pb2.Status) -> int:
    """An upper bound: the message goes percent-encoded, and again in the base64 of the whole."""
    return 3 * len(status.message.encode()) + 4 * status.ByteSize() // 3


def _presentable(text: str, limit_bytes: int) -> str:
    """The text as a status can carry it: valid UTF-8 and of bounded length."""
    valid = text.encode("utf-8", "backslashreplace")
    if len(valid) <= limit_bytes:
        return valid.decode()
    ellipsis = "…"
    return valid[: limit_bytes - len(ellipsis.encode())].decode("utf-8", "ignore") + ellipsis


def _rich_status(metadata: Iterable[Any]) -> status_pb2.Status:
    for key, value in metadata:
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                break
    return status_pb2.Status()


def _error_info(status: status_pb2.Status) -> error_details_pb2.ErrorInfo | None:
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        if detail.Unpack(info) and info.domain == DOMAIN:
            return info
    return None


def _quorum_lost(status: status_pb2.Status, metadata: Mapping[str, str]) -> QuorumLost:
    point = fuser_service_pb2.ResumePoint()
    for detail in status.details:
        if detail.Unpack(point):
            break
    else:  # too large to travel
        point.committed_tokens = _number(metadata, "committed_tokens")
    return QuorumLost(
        status.message,
        committed_segments=tuple(point.committed_segments),
        committed_tokens=point.committed_tokens,
    )


def _build(cls: type[SpecFuseError], message: str, metadata: dict[str, str]) -> SpecFuseError:
    """An error of a class with just this message and metadata, whatever its constructor takes."""
    error = cls.__new__(cls, message)
    SpecFuseError.__init__(error, message)
    error.metadata = metadata
    if isinstance(error, InvalidArgument):
        error.field = metadata.get("field", "request")
    return error


def _number(metadata: Mapping[str, str], key: str) -> int:
    value = metadata.get(key, "")
    return int(value) if value.isascii() and value.isdigit() else 0


def _from_foreign(error: grpc.RpcError, peer: str) -> SpecFuseError:
    code, said = error.code(), error.details() or "no reason given"
    metadata = {"peer": peer} if peer else {}
    who = peer or "the service"
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in said:
        return InvalidArgument("request", f"too large a message: {said}", **metadata)
    cls = _FOREIGN[code]
    if cls is Unavailable:
        said = f"{said}. Is it running at this address, and do both sides use TLS or neither?"
    elif code is grpc.StatusCode.UNIMPLEMENTED:
        said = f"{said}. Is this the address of another service?"
    return _build(cls, f"the call to {who} failed: {said}", metadata)
