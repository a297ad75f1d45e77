"""TLS from PEM files, checked before anything is started with them.

gRPC takes any bytes for credentials and fails in the handshake of the first call; `ssl` is asked
first, so that a wrong file is a `Misconfigured` that names it.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

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

    def credentials(self) -> grpc.ServerCredentials:
        """The files as gRPC takes them.

        Raises:
            Misconfigured: a file is missing, unreadable or not what it should be.
        """
        pair = _read_pair(self.certificate, self.key)
        authority = None if self.client_ca is None else _read_authority(self.client_ca)
        return grpc.ssl_server_credentials(
            [pair], root_certificates=authority, require_client_auth=authority is not None
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

    def credentials(self) -> grpc.ChannelCredentials:
        """The files as gRPC takes them.

        Raises:
            Misconfigured: a file is missing, unreadable or not what it should be, or one of
                `certificate` and `key` is given without the other.
        """
        authority = None if self.ca is None else _read_authority(self.ca)
        if self.certificate is None and self.key is None:
            return grpc.ssl_channel_credentials(root_certificates=authority)
        if self.certificate is None or self.key is None:
            lacking = "certificate" if self.certificate is None else "key"
            raise Misconfigured(
                f"tls.{lacking}: missing; a certificate and its key come together, or neither does"
            )
        key, chain = _read_pair(self.certificate, self.key)
        return grpc.ssl_channel_credentials(authority, key, chain)


def _read_pair(certificate: Path, key: Path) -> tuple[bytes, bytes]:
    """Key and certificate chain, in gRPC's order, known to belong together."""
    pair = _read(key, "tls.key"), _read(certificate, "tls.certificate")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=lambda: b"")
    except (ssl.SSLError, ValueError) as error:
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
    except ssl.SSLError as error:
        raise Misconfigured(f"tls.ca {path}: not PEM certificates ({error})") from error
    return pem


def _read(path: Path, key: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Misconfigured(f"{key} {path}: cannot be read: {error.strerror}") from error
