"""Connections to a service, all opened alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import grpc
import grpc.aio

from specfuse.errors import Misconfigured
from specfuse.rpc.tls import ClientPem, ClientTls

BlockingInterceptor: TypeAlias = (
    "grpc.UnaryUnaryClientInterceptor | grpc.UnaryStreamClientInterceptor"
)

MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024
"""Default size limit of a message, both ways. A larger one fails with RESOURCE_EXHAUSTED."""

PROBE_SECONDS: Final = 2
"""A connection with calls on it is probed when it has been silent for so long.

A process that works answers probes however long it thinks, as gRPC's own threads do that. One that
is stopped, or cut off, does not; so whoever waits for it need not wait until the deadline.
"""

PROBE_TIMEOUT_SECONDS: Final = 3
"""A probe unanswered for so long ends the connection; its calls fail with UNAVAILABLE."""

CONNECT_SECONDS: Final = 5
"""An attempt to connect that has come to nothing after so long has failed."""

_SPREAD: Final = ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}')


def open_channel(
    target: str,
    tls: ClientTls | ClientPem | None = None,
    *,
    interceptors: Sequence[grpc.aio.ClientInterceptor] = (),
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    spread: bool = False,
) -> grpc.aio.Channel:
    """A channel to `target` for asyncio. Connects at the first call; close it when done.

    `interceptors` are code around every call, the first outermost; each is of one kind of call, as
    gRPC takes no interceptor for several. If the name in `target` has several addresses, calls go
    to one of them while it can be reached, or, with `spread`, to all of them in turn.

    Raises:
        Misconfigured: an empty target, or TLS files that are not what they should be.
    """
    options = _options(target, tls, max_message_bytes)
    if spread:
        options.append(_SPREAD)
    if tls is None:
        return grpc.aio.insecure_channel(target, options, interceptors=interceptors)
    credentials = tls.credentials()
    return grpc.aio.secure_channel(target, credentials, options, interceptors=interceptors)


def open_blocking_channel(
    target: str,
    tls: ClientTls | ClientPem | None = None,
    *,
    interceptors: Sequence[BlockingInterceptor] = (),
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    spread: bool = False,
) -> grpc.Channel:
    """As `open_channel`, for callers without an event loop. Safe to share between threads."""
    options = _options(target, tls, max_message_bytes)
    if spread:
        options.append(_SPREAD)
    if tls is None:
        channel = grpc.insecure_channel(target, options)
    else:
        channel = grpc.secure_channel(target, tls.credentials(), options)
    return grpc.intercept_channel(channel, *interceptors) if interceptors else channel


def _options(
    target: str, tls: ClientTls | ClientPem | None, max_message_bytes: int
) -> list[tuple[str, int | str]]:
    if not target or target.isspace():
        raise Misconfigured("target: empty; give the service's address as host:port")
    options: list[tuple[str, int | str]] = [
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.keepalive_time_ms", PROBE_SECONDS * 1000),
        ("grpc.keepalive_timeout_ms", PROBE_TIMEOUT_SECONDS * 1000),
        # gRPC measures bandwidth by probes, too, and sends no other while one is under way.
        ("grpc.http2.ping_timeout_ms", PROBE_TIMEOUT_SECONDS * 1000),
        # A caller that waits sends nothing else, and would run out of probes.
        ("grpc.http2.max_pings_without_data", 0),
        # An http_proxy in the environment is meant for the web, not for the mesh.
        ("grpc.enable_http_proxy", 0),
        # A replica that comes back must not wait out gRPC's two minutes of backoff.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 1_000),
        # A process that is stopped accepts connections, too, and says nothing on them.
        ("grpc.min_reconnect_backoff_ms", CONNECT_SECONDS * 1000),
        # Its own connections: another channel's failures to connect are not this one's.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if tls is not None and tls.server_name:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    return options
