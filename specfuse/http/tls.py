"""The TLS of an HTTP server, which can be replaced while it serves."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol


class Pem(Protocol):
    """A server's key and certificate chain, and any authority of the callers."""

    @property
    def key(self) -> bytes:
        """The private key."""

    @property
    def certificate(self) -> bytes:
        """The chain."""

    @property
    def client_ca(self) -> bytes | None:
        """Whose certificates callers show; None asks for none."""


class RenewableContext(ssl.SSLContext):
    """For one server: each new connection is made with what is current then.

    asyncio asks a context for nothing but the two ends of a connection.
    """

    _current: ssl.SSLContext
    _client: ssl.VerifyMode

    def __new__(cls, pem: Pem, client: ssl.VerifyMode = ssl.CERT_REQUIRED) -> RenewableContext:
        """A context that begins with this. `client` is of callers' certificates, if asked for."""
        self = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)
        self._client = client
        self._current = _context(pem, client)
        return self

    def replace(self, pem: Pem) -> None:
        """Has new connections see this."""
        self._current = _context(pem, self._client)

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:  # noqa: ANN401 (as its base)
        """A new connection's TLS."""
        return self._current.wrap_bio(*args, **options)


def _context(pem: Pem, client: ssl.VerifyMode) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    with _file_of(pem.certificate) as certificate, _file_of(pem.key) as key:
        context.load_cert_chain(certificate, key)
    if pem.client_ca is not None:
        context.verify_mode = client
        context.load_verify_locations(cadata=pem.client_ca.decode("ascii", "ignore"))
    return context


@contextmanager
def _file_of(content: bytes) -> Iterator[str]:
    """A file in memory: `ssl` reads files only, and a key is not written to a disk for it."""
    descriptor = os.memfd_create("pem")
    try:
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
