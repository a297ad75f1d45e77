"""What an HTTP request shows of who makes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from starlette.requests import Request

from fuser_service.tenancy.caller import Credentials
from specfuse.headers import AUTHORIZATION
from specfuse.http.connection import CONNECTION

_ALTERNATIVE_NAMES: Final = frozenset({"DNS", "URI", "email", "IP Address"})


def credentials_of(request: Request) -> Credentials:
    """The headers of the request, and the names in the certificate of its connection."""
    certificate = request.scope["state"][CONNECTION].certificate
    return Credentials(
        tuple(request.headers.getlist(AUTHORIZATION)), tuple(_names_in(certificate or {}))
    )


def _names_in(certificate: Mapping[str, Any]) -> Iterator[str]:
    """Alternative names, then the common name, of a certificate that TLS has verified."""
    for kind, name in certificate.get("subjectAltName", ()):
        if kind in _ALTERNATIVE_NAMES:
            yield name
    for attributes in certificate.get("subject", ()):
        yield from (value for kind, value in attributes if kind == "commonName")
