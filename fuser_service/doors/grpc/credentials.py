"""What a gRPC call shows of who makes it."""

from __future__ import annotations

from typing import Any, Final

from grpc.aio import ServicerContext

from fuser_service.tenancy.caller import Credentials
from specfuse.headers import AUTHORIZATION

_NAMES: Final = ("x509_subject_alternative_name", "x509_common_name")
"""As gRPC calls them, of a certificate that it has verified."""


def credentials_of(context: ServicerContext[Any, Any]) -> Credentials:
    """The headers of the call, and the names in the certificate of its connection."""
    metadata = context.invocation_metadata() or ()
    shown = context.auth_context()
    return Credentials(
        tuple(_text(value) for key, value in metadata if key == AUTHORIZATION),
        tuple(_text(value) for name in _NAMES for value in shown.get(name, ())),
    )


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode(errors="backslashreplace")
