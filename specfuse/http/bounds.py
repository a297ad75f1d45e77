"""What callers can hold of an HTTP server at most."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of connections, whatever is asked on them; named as those of gRPC's servers are."""

    connections: int = 1024
    """Most at a time. For a further one, that makes way whose request is waited for longest; if
    each has one, the further one is closed."""
    idle_seconds: float = 300.0
    """A connection without requests is closed after so long."""
    handshake_seconds: float = 10.0
    """How long a TLS handshake, and then the head of a request, may take to arrive."""
    body_seconds: float = 30.0
    """How long the rest of a request may take to arrive."""
    stall_seconds: float = 60.0
    """How long a caller may leave what it is sent unread."""
    head_bytes: int = 16_384
    """Bytes of a request's first line and headers."""
    body_bytes: int = 4_194_304
    """Bytes of a request's body."""
    bodies_bytes: int = 67_108_864
    """Bytes of all bodies together that have been received in part."""

    @property
    def share_bytes(self) -> int:
        """Most of these that are whoever's: a quarter, but at least one whole body."""
        return max(self.bodies_bytes // 4, self.body_bytes)
