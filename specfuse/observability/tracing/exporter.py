"""Sends spans to a collector, by OTLP over gRPC.

The published exporter takes headers, certificates and more from the environment, and tells the log
of every batch that it could not send. This one does with gRPC's own retries, and says once that the
collector is away and once that it is back, if that was not said just before.
"""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import grpc
from google.protobuf.message import DecodeError
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

if TYPE_CHECKING:
    Send = grpc.UnaryUnaryMultiCallable[ExportTraceServiceRequest, bytes]

_SERVICE: Final = "opentelemetry.proto.collector.trace.v1.TraceService"
_SEND_SECONDS: Final = 5.0
"""How long a batch may take, retries included. Then it is lost."""
_SILENT_SECONDS: Final = 60.0
"""How long after it was told of a loss the log is told of no other: an overloaded collector comes
and goes."""
_MOST_REASON_CHARACTERS: Final = 300
"""As much as the log repeats of what a collector says."""
_RETRIES: Final = {
    "methodConfig": [
        {
            "name": [{"service": _SERVICE}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.5s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE", "ABORTED"],
            },
        }
    ]
}
_OPTIONS: Final = (
    ("grpc.service_config", json.dumps(_RETRIES)),
    # An http_proxy in the environment is meant for the web, not for the mesh.
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.use_local_subchannel_pool", 1),
)

_logger = logging.getLogger(__name__)


def open_channel(
    endpoint: str, credentials: grpc.ChannelCredentials | None, server_name: str
) -> grpc.Channel:
    """A channel to the collector; None is plain text. Connects when it is first used."""
    if credentials is None:
        return grpc.insecure_channel(endpoint, _OPTIONS)
    named = (("grpc.ssl_target_name_override", server_name),) if server_name else ()
    return grpc.secure_channel(endpoint, credentials, (*_OPTIONS, *named))


class CollectorExporter(SpanExporter):
    """Sends batches to one collector, from one thread. The rest may be called from any."""

    def __init__(
        self, endpoint: str, channel: grpc.Channel, were_lost: Callable[[int], object]
    ) -> None:
        """Takes over the channel, which leads to `endpoint`.

        `were_lost` is told how many spans more are lost, from any thread.
        """
        self.taken = 0
        """How many spans it was ever given to send."""
        self._endpoint = endpoint
        self._channel = channel
        self._send = _sender(channel)
        self._closed = False
        self._were_lost = were_lost
        self._counting = threading.Lock()
        self._lost = 0  # since the log was told that they are taken again
        self._told = False
        self._silent_until = -math.inf
        self._crowded = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Sends them. What cannot be sent is lost: nothing that is traced waits for a collector."""
        self.taken += len(spans)
        if self._closed:
            self._failed(len(spans), "the service has ended")
            return SpanExportResult.FAILURE
        try:
            answer = self._answer_to(encode_spans(spans))
            said = ExportTraceServiceResponse.FromString(answer).partial_success
        except DecodeError:
            self._failed(len(spans), "the answers from there are not OTLP's")
        except (grpc.RpcError, ValueError) as error:  # ValueError: the channel was closed before
            self._failed(len(spans), _reason(error))
        else:
            if not said.rejected_spans:
                self._succeeded()
                return SpanExportResult.SUCCESS
            self._failed(said.rejected_spans, said.error_message)
        return SpanExportResult.FAILURE

    def crowded_out(self) -> None:
        """One more span waits than may, so that the oldest made way and is lost."""
        self._crowded = True
        self._failed(1, "they come faster than they are taken")

    def exchange(self, channel: grpc.Channel) -> None:
        """Sends over this channel from now on."""
        before, self._channel = self._channel, channel
        self._send = _sender(channel)
        before.close()

    def shutdown(self) -> None:
        """Ends at once, whatever is being sent. Idempotent."""
        self._closed = True
        self._channel.close()

    def _answer_to(self, request: ExportTraceServiceRequest) -> bytes:
        send = self._send
        try:
            return send(request, timeout=_SEND_SECONDS)
        except (grpc.RpcError, ValueError):
            if send is self._send:
                raise
        return self._send(request, timeout=_SEND_SECONDS)  # the channel was exchanged meanwhile

    def _failed(self, spans: int, reason: str) -> None:
        self._were_lost(spans)
        now = time.monotonic()
        with self._counting:
            self._lost += spans
            is_news = not (self._told or self._closed or now < self._silent_until)
            if is_news:
                self._told, self._silent_until = True, now + _SILENT_SECONDS
        if is_news:
            _logger.warning(
                "tracing.endpoint %s: spans cannot be sent and are lost, which is said once: %s",
                self._endpoint,
                _presentable(reason),
            )

    def _succeeded(self) -> None:
        """A batch was taken, which is news after it was news that spans are lost."""
        with self._counting:
            crowded, self._crowded = self._crowded, False
            if crowded or not self._told:
                return
            self._told = False
            lost, self._lost = self._lost, 0
        _logger.info("tracing.endpoint %s: takes spans again; %d were lost", self._endpoint, lost)


def _sender(channel: grpc.Channel) -> Send:
    """The generated stub would have gRPC log every answer that it cannot read."""
    return channel.unary_unary(
        f"/{_SERVICE}/Export", request_serializer=ExportTraceServiceRequest.SerializeToString
    )


def _reason(error: Exception) -> str:
    return f"{error.code().name}: {error.details()}" if isinstance(error, grpc.Call) else str(error)


def _presentable(reason: str) -> str:
    """What somebody else wrote, as a part of one line."""
    printable = "".join(char if char.isprintable() else " " for char in reason)
    return printable[:_MOST_REASON_CHARACTERS] or "no reason given"
