"""TLS from PEM files, checked before anything is started with them.

gRPC takes any bytes for credentials and fails in the handshake of the first call; `ssl` is asked
first, so that a wrong file is a `Misconfigured` that names it. What was read is a value: two
readings can be compared, and whoever has one does not depend on the files any more.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from specfuse.errors import Misconfigured


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """A server's TLS: its certificate chain and private key, both PEM.

    With `client_ca`, callers must show a certificate signed by it (mutual TLS).
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that there are."""
        return _given(self.certificate, self.key, self.client_ca)

    def read(self) -> ServerPem:
        """What the files hold.

        Raises:
            Misconfigured: a file is missing, unreadable or not what it should be.
        """
        key, chain = _read_pair(self.certificate, self.key)
        authority = None if self.client_ca is None else _read_authority(self.client_ca)
        return ServerPem(key, chain, authority)

    def credentials(self) -> grpc.ServerCredentials:
        """The files as they are now, as gRPC takes them.

        Raises:
            Misconfigured: as `read`.
        """
        return RenewableTls(self.read()).credentials()


@dataclass(frozen=True, slots=True)
class ServerPem:
    """What `TlsFiles` held: a key and its certificate chain, and any authority of the callers."""

    key: bytes = field(repr=False)
    certificate: bytes
    client_ca: bytes | None

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        """As gRPC takes it."""
        pair = (self.key, self.certificate)
        return grpc.ssl_server_certificate_configuration([pair], self.client_ca)


class RenewableTls:
    """A server's TLS that can be replaced while it serves.

    New connections see what is current; those that stand, and their calls, do not notice.
    """

    def __init__(self, pem: ServerPem) -> None:
        self._asks_for_certificates = pem.client_ca is not None
        self._current = pem.configuration()

    def replace(self, pem: ServerPem) -> None:
        """Has new connections see this. Whether callers must show a certificate stays as it was."""
        self._current = pem.configuration()

    def credentials(self) -> grpc.ServerCredentials:
        """For one server, which follows what is current from now on."""
        used = self._current

        def news() -> grpc.ServerCertificateConfiguration | None:
            """What gRPC does not know yet. It asks before each handshake, from its own threads."""
            nonlocal used
            current = self._current
            if current is used:
                return None
            used = current
            return current

        fetch: Any = news  # the stubs do not know that it may return None
        return grpc.dynamic_ssl_server_credentials(
            used, fetch, require_client_authentication=self._asks_for_certificates
        )


@dataclass(frozen=True, slots=True)
class ClientTls:
    """A caller's TLS.

    `ca` signs the servers' certificates; None trusts the authorities gRPC ships. `certificate` and
    `key` come together and identify the caller under mutual TLS. `server_name` is the name to look
    for in the server's certificate, where that is not the host called (a pod's address, say).
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str = ""

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that there are."""
        return _given(self.ca, self.certificate, self.key)

    def read(self) -> ClientPem:
        """What the files hold.

        Raises:
            Misconfigured: a file is missing, unreadable or not what it should be, or one of
                `certificate` and `key` is given without the other.
        """
        authority = None if self.ca is None else _read_authority(self.ca)
        if self.certificate is None and self.key is None:
            return ClientPem(authority, server_name=self.server_name)
        if self.certificate is None or self.key is None:
            lacking = "certificate" if self.certificate is None else "key"
            raise Misconfigured(
                f"tls.{lacking}: missing; a certificate and its key come together, or neither does"
            )
        key, chain = _read_pair(self.certificate, self.key)
        return ClientPem(authority, chain, key, self.server_name)

    def credentials(self) -> grpc.ChannelCredentials:
        """The files as they are now, as gRPC takes them.

        Raises:
            Misconfigured: as `read`.
        """
        return self.read().credentials()


@dataclass(frozen=True, slots=True)
class ClientPem:
    """What the files of a `ClientTls` held."""

    ca: bytes | None
    certificate: bytes | None = None
    key: bytes | None = field(default=None, repr=False)
    server_name: str = ""

    def credentials(self) -> grpc.ChannelCredentials:
        """As gRPC takes it."""
        return grpc.ssl_channel_credentials(self.ca, self.key, self.certificate)


def _given(*paths: Path | None) -> tuple[Path, ...]:
    return tuple(path for path in paths if path is not None)


def _read_pair(certificate: Path, key: Path) -> tuple[bytes, bytes]:
    """Key and certificate chain, in gRPC's order, known to belong together."""
    pair = _read(key, "tls.key"), _read(certificate, "tls.certificate")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=lambda: b"")
    except (OSError, ValueError) as error:
        raise Misconfigured(
            f"tls.certificate {certificate} and tls.key {key}: not a PEM certificate chain and its "
            f"unencrypted private key ({error})"
        ) from error
    return pair


def _read_authority(path: Path) -> bytes:
    pem = _read(path, "tls.ca")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(path)
    except OSError as error:
        raise Misconfigured(f"tls.ca {path}: not PEM certificates ({error})") from error
    return pem


def _read(path: Path, key: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Misconfigured(f"{key} {path}: cannot be read: {error.strerror}") from error
