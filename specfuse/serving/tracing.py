"""A service's traces, sent until it has ended. Without them, nothing is imported for them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack

import grpc
from prometheus_client import CollectorRegistry, Counter

from specfuse.errors import Misconfigured
from specfuse.observability.tracing.requests import NONE, RequestSpans
from specfuse.observability.tracing.settings import EdgeTracing, Tracing
from specfuse.rpc.tls import ClientPem, ClientTls
from specfuse.serving.files import FollowedFiles

_logger = logging.getLogger(__name__)


def spans_lost(registry: CollectorRegistry) -> Counter:
    """Counts the spans that no collector gets. It is there, at 0, where nothing is traced, too."""
    return Counter(
        "specfuse_spans_lost",
        "Spans that no collector took, or that made way as too many waited to be sent.",
        registry=registry,
    )


def open_tracing(
    settings: Tracing | None,
    resource: Mapping[str, str],
    files: FollowedFiles,
    registry: CollectorRegistry,
    rest: AsyncExitStack,
) -> RequestSpans:
    """What makes the spans of requests, and has the tracer for those within them.

    They are sent until `rest` is closed, at last those that remain; those that are lost are counted
    in `registry`. `resource` says what spans are of: `service.name` and more.

    Raises:
        Misconfigured: a TLS file is not what it should be, or the environment keeps the SDK from
            being loaded.
    """
    lost = spans_lost(registry)
    if settings is None:
        return NONE
    try:
        from specfuse.observability.tracing import exporter, provider  # noqa: PLC0415 (few need it)
    except ValueError as error:
        raise Misconfigured(
            f"tracing: OpenTelemetry's SDK refuses the environment: {error}; drop that there, as "
            "these settings are all that counts"
        ) from error

    endpoint, tls = settings.endpoint, settings.tls

    def connect(pem: ClientPem | None) -> grpc.Channel:
        if pem is None:
            return exporter.open_channel(endpoint, None, "")
        return exporter.open_channel(endpoint, pem.credentials(), pem.server_name)

    def renew(pem: ClientPem) -> None:
        sending.exchange(connect(pem))
        _logger.info("tracing.tls: read again; connecting anew")

    pem = None
    if tls is not None:
        source = ClientTls(tls.ca, tls.certificate, tls.key, tls.server_name)
        pem = files.follow(source.paths, source.read, renew)
    sending = exporter.CollectorExporter(endpoint, connect(pem), lost.inc)
    ratio, trusting = 0.0, True
    if isinstance(settings, EdgeTracing):
        ratio, trusting = settings.sample_ratio, settings.trust_callers
    opened = provider.Provider(resource, ratio, sending)
    rest.push_async_callback(opened.close)
    _logger.info("tracing: spans go to %s", endpoint)
    return RequestSpans(opened.tracer, trusting)
