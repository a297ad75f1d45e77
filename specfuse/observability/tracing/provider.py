"""OpenTelemetry's SDK, set up from our settings alone. Imported only where tracing is configured.

The SDK takes from the environment what it is not told. Here it is told everything, so that there is
one way to configure a service.
"""

from __future__ import annotations

import asyncio
import logging
import platform
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from typing import Final

from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import NoOpTracer, Tracer

from specfuse.errors import Misconfigured
from specfuse.observability.tracing.exporter import CollectorExporter

FLUSH_SECONDS: Final = 3.0
"""How long a service that ends waits for its last spans to be sent."""

_QUEUE: Final = 8192
"""Most spans that wait to be sent; the oldest make way."""
_BATCH: Final = 512
_EVERY_MS: Final = 1000
_LIMITS: Final = SpanLimits(
    max_attributes=64,
    max_events=128,
    max_links=16,
    max_span_attributes=64,
    max_event_attributes=16,
    max_link_attributes=16,
    max_attribute_length=1024,
    max_span_attribute_length=1024,
)
_NO_METERS: Final = NoOpMeterProvider()

_logger = logging.getLogger(__name__)


class Provider:
    """Makes the tracer of a service, whose spans an exporter sends from a thread of its own."""

    def __init__(
        self, resource: Mapping[str, str], sample_ratio: float, exporter: CollectorExporter
    ) -> None:
        """Takes over the exporter. `resource` says what spans are of: `service.name` and more.

        Raises:
            Misconfigured: the environment says that there are to be no traces.
        """
        self._exporter = exporter
        self._processor = _Queue(exporter)
        provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(sample_ratio)),
            resource=_resource(resource),
            shutdown_on_exit=False,
            span_limits=_LIMITS,
            meter_provider=_NO_METERS,
        )
        provider.add_span_processor(self._processor)
        self.tracer: Tracer = provider.get_tracer("specfuse", _version())
        if isinstance(self.tracer, NoOpTracer):
            self._processor.shutdown()  # type: ignore[no-untyped-call]
            raise Misconfigured(
                "tracing.endpoint: contradicts OTEL_SDK_DISABLED=true in the environment; drop one"
            )

    async def close(self) -> None:
        """Sends what is left, for a bounded time. Later spans are dropped."""
        thread = ThreadPoolExecutor(1, thread_name_prefix="last-spans")
        sent = asyncio.get_running_loop().run_in_executor(thread, self._processor.shutdown)
        try:
            _, late = await asyncio.wait({sent}, timeout=FLUSH_SECONDS)
            if late:
                _logger.warning(
                    "tracing: the last spans could not be sent in %g s, and are lost", FLUSH_SECONDS
                )
        finally:
            self._exporter.shutdown()  # ends what is still being sent, and so the thread
            thread.shutdown(wait=False)


class _Queue(BatchSpanProcessor):
    """The spans that wait to be sent. It tells of those that make way, which the SDK does not."""

    def __init__(self, exporter: CollectorExporter) -> None:
        super().__init__(exporter, _QUEUE, _EVERY_MS, _BATCH, _EVERY_MS, meter_provider=_NO_METERS)
        self._exporter = exporter
        self._came = 0  # of those that did not make anyone go

    def on_end(self, span: ReadableSpan) -> None:
        """Has the span wait."""
        if self._came - self._exporter.taken >= _QUEUE:
            self._exporter.crowded_out()
        else:
            self._came += 1
        super().on_end(span)


def _resource(said: Mapping[str, str]) -> Resource:
    return Resource(
        {
            "service.version": _version(),
            "service.instance.id": str(uuid.uuid4()),
            "host.name": platform.node(),
            "telemetry.sdk.name": "opentelemetry",
            "telemetry.sdk.language": "python",
            "telemetry.sdk.version": metadata.version("opentelemetry-sdk"),
            **said,
        }
    )


def _version() -> str:
    return metadata.version("specfuse")
