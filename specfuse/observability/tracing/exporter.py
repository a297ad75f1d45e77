"""Sends spans to a collector, by OTLP over gRPC.

The published exporter takes headers, certificates and more from the environment, and tells the log
of every batch that it could not send. This one does with gRPC's own retries, and says once that the
collector is away and once that it is back.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from typing import Final

import grpc
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

_SERVICE: Final = "opentelemetry.proto.collector.trace.v1.TraceService"
_SEND_SECONDS: Final = 5.0
"""How long a batch may take, retries included. Then it is lost."""
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
    """Sends batches to one collector. Used from one thread, and closed from any."""

    def __init__(self, endpoint: str, channel: grpc.Channel) -> None:
        """Takes over the channel, which leads to `endpoint`."""
        self._endpoint = endpoint
        self._channel = channel
        self._send = _sender(channel)
        self._closed = False
        self._lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Sends them. What cannot be sent is lost: nothing that is traced waits for a collector."""
        if self._closed:
            return SpanExportResult.FAILURE
        try:
            said = self._send(encode_spans(spans), timeout=_SEND_SECONDS)
        except (grpc.RpcError, ValueError) as error:  # ValueError: closed, or exchanged, meanwhile
            self._failed(len(spans), _reason(error))
            return SpanExportResult.FAILURE
        if said.partial_success.rejected_spans:
            self._failed(said.partial_success.rejected_spans, said.partial_success.error_message)
            return SpanExportResult.FAILURE
        self._succeeded()
        return SpanExportResult.SUCCESS

    def exchange(self, channel: grpc.Channel) -> None:
        """Sends over this channel from now on."""
        before, self._channel = self._channel, channel
        self._send = _sender(channel)
        before.close()

    def shutdown(self) -> None:
        """Ends at once, whatever is being sent. Idempotent."""
        self._closed = True
        self._channel.close()

    def _failed(self, spans: int, reason: str) -> None:
        if not self._lost and not self._closed:
            _logger.warning(
                "tracing.endpoint %s: spans cannot be sent and are lost, which is said once: %s",
                self._endpoint,
                reason,
            )
        self._lost += spans

    def _succeeded(self) -> None:
        if self._lost:
            _logger.info(
                "tracing.endpoint %s: takes spans again; %d were lost", self._endpoint, self._lost
            )
        self._lost = 0


def _sender(channel: grpc.Channel) -> Callable[..., ExportTraceServiceResponse]:
    return TraceServiceStub(channel).Export  # type: ignore[no-untyped-call, no-any-return]


def _reason(error: Exception) -> str:
    return f"{error.code().name}: {error.details()}" if isinstance(error, grpc.Call) else str(error)
